"""Diagnostics: where and why a generator fails. The callbacks are named here; each measure's functions in its file."""

from textflow.diagnostics.ablation import Ablated as Ablated
from textflow.diagnostics.base import Diagnostic as Diagnostic
from textflow.diagnostics.base import Look as Look
from textflow.diagnostics.base import look as look
from textflow.diagnostics.callbacks import Blunt as Blunt
from textflow.diagnostics.callbacks import DABI as DABI
from textflow.diagnostics.callbacks import RollIn as RollIn
from textflow.diagnostics.callbacks import RowSpace as RowSpace
from textflow.diagnostics.callbacks import Tube as Tube
from textflow.diagnostics.sample_callbacks import CCI as CCI
from textflow.diagnostics.sample_callbacks import Margins as Margins
from textflow.diagnostics.sample_callbacks import Stiffness as Stiffness
