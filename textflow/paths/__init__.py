"""Paths between text and noise."""

from textflow.paths.base import ProbPath as ProbPath
from textflow.paths.linear import LinearPath as LinearPath
from textflow.paths.tangent import TangentPath as TangentPath
from textflow.paths.variance_preserving import VariancePreserving as VariancePreserving
