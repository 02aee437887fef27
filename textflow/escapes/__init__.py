"""Escapes: from a belief to a choice before the final readout."""

from textflow.escapes.base import Escape as Escape
from textflow.escapes.base import Gate as Gate
from textflow.escapes.commit import Commit as Commit
from textflow.escapes.logit_adjustment import Fair as Fair
from textflow.escapes.gates import All as All
from textflow.escapes.gates import Confident as Confident
from textflow.escapes.gates import Margin as Margin
from textflow.escapes.gates import Schedule as Schedule
from textflow.escapes.gates import Top as Top
from textflow.escapes.gates import Tube as Tube
from textflow.escapes.sharpen import Sharpen as Sharpen
from textflow.escapes.none import Soft as Soft
