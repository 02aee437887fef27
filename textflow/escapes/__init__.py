"""Escapes: commit a belief to tokens before the final readout."""

from textflow.escapes.base import Escape as Escape
from textflow.escapes.base import Gate as Gate
from textflow.escapes.base import NoEscape as NoEscape
from textflow.escapes.commit import Commit as Commit
from textflow.escapes.logit_adjustment import LogitAdjustment as LogitAdjustment
from textflow.escapes.gates import Everywhere as Everywhere
from textflow.escapes.gates import HighConfidence as HighConfidence
from textflow.escapes.gates import MarginGate as MarginGate
from textflow.escapes.gates import ConfidenceSchedule as ConfidenceSchedule
from textflow.escapes.gates import TopFraction as TopFraction
from textflow.escapes.gates import LowConfidence as LowConfidence
from textflow.escapes.sharpen import Sharpen as Sharpen
