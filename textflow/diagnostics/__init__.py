"""Diagnostics: where and why a generator fails. The callbacks are named here; each measure's functions in its file."""

from textflow.diagnostics.base import Diagnostic as Diagnostic
from textflow.diagnostics.base import Look as Look
from textflow.diagnostics.base import look as look
from textflow.diagnostics.watch import CCI as CCI
from textflow.diagnostics.watch import DABI as DABI
from textflow.diagnostics.watch import Stiffness as Stiffness
from textflow.diagnostics.watch import Tube as Tube
