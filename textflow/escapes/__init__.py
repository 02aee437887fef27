"""Escapes: from a belief to a choice before the final readout."""

from textflow.escapes.base import Escape as Escape
from textflow.escapes.base import Gate as Gate
from textflow.escapes.soft import Soft as Soft
