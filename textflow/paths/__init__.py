"""Paths between text and noise."""

from textflow.paths.base import Path as Path
from textflow.paths.linear import Linear as Linear
