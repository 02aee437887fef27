"""Samplers: from noise to text."""

from textflow.samplers.base import Sampler as Sampler
from textflow.samplers.base import State as State
from textflow.samplers.base import Trace as Trace
from textflow.samplers.base import sample as sample
from textflow.samplers.denoise_fn import DenoiseFn as DenoiseFn
from textflow.samplers.order import AllAtOnce as AllAtOnce
from textflow.samplers.order import Order as Order
from textflow.samplers.order import Sample as Sample
from textflow.samplers.blockwise import Blockwise as Blockwise
from textflow.samplers.early_exit import EarlyExit as EarlyExit
from textflow.samplers.grouped import Grouped as Grouped
from textflow.samplers.skip_first import SkipFirstCall as SkipFirstCall
from textflow.samplers.ace import ACE as ACE
from textflow.samplers.ace import RepetitionDirection as RepetitionDirection
from textflow.samplers.ace import repetition_direction as repetition_direction
from textflow.samplers.flow_map_churn import FlowMapChurn as FlowMapChurn
from textflow.samplers.ode import Euler as Euler
from textflow.samplers.ode import Heun as Heun
from textflow.samplers.ode import DPMSolverPP2M as DPMSolverPP2M
from textflow.samplers.prompt import Prompt as Prompt
from textflow.samplers.prompt import extract_answer as extract_answer
from textflow.samplers.reinject import Reinject as Reinject
from textflow.samplers.ancestral import Ancestral as Ancestral
from textflow.samplers.ancestral import LowNoiseResample as LowNoiseResample
