"""Diagnostics: where and why a generator fails. The callbacks are named here; each measure's functions in its file."""

from textflow.diagnostics.ablation import Ablated as Ablated
from textflow.diagnostics.base import Diagnostic as Diagnostic
from textflow.diagnostics.base import Look as Look
from textflow.diagnostics.base import look as look
from textflow.diagnostics.watch import Blunt as Blunt
from textflow.diagnostics.watch import DABI as DABI
from textflow.diagnostics.watch import RollIn as RollIn
from textflow.diagnostics.watch import RowSpace as RowSpace
from textflow.diagnostics.watch import Tube as Tube
from textflow.diagnostics.watch_samples import CCI as CCI
from textflow.diagnostics.watch_samples import Margins as Margins
from textflow.diagnostics.watch_samples import Stiffness as Stiffness
