"""Samplers: from noise to text."""

from textflow.samplers.base import Sampler as Sampler
from textflow.samplers.base import Trace as Trace
from textflow.samplers.base import sample as sample
from textflow.samplers.early_exit import EarlyStop as EarlyStop
from textflow.samplers.euler import Euler as Euler
from textflow.samplers.skip_first import HeadStart as HeadStart
from textflow.samplers.heun import Heun as Heun
from textflow.samplers.dpmpp_2m import Multistep as Multistep
from textflow.samplers.prompt import Prompt as Prompt
from textflow.samplers.prompt import answer as answer
from textflow.samplers.reinject import Reinject as Reinject
from textflow.samplers.low_noise import Relook as Relook
from textflow.samplers.ancestral import Renoise as Renoise
