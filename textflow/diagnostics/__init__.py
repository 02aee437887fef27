"""Diagnostics of where and why a generator fails. The callbacks are exported here; the functions are in the modules."""

from textflow.diagnostics.ablation import SoftFeedback as SoftFeedback
from textflow.diagnostics.base import Diagnostic as Diagnostic
from textflow.diagnostics.base import DiagnosticInputs as DiagnosticInputs
from textflow.diagnostics.base import diagnostic_inputs as diagnostic_inputs
from textflow.diagnostics.callbacks import DecoderTemperature as DecoderTemperature
from textflow.diagnostics.callbacks import DABI as DABI
from textflow.diagnostics.callbacks import RollIn as RollIn
from textflow.diagnostics.callbacks import RowSpace as RowSpace
from textflow.diagnostics.callbacks import Tube as Tube
from textflow.diagnostics.sample_callbacks import CCI as CCI
from textflow.diagnostics.sample_callbacks import Margins as Margins
from textflow.diagnostics.sample_callbacks import Stiffness as Stiffness
from textflow.diagnostics.text_likelihood import TextLikelihood as TextLikelihood
from textflow.diagnostics.stories import StoryAgreement as StoryAgreement
from textflow.diagnostics.stories import StoryCurves as StoryCurves
from textflow.diagnostics.story_examples import StoryExamples as StoryExamples
