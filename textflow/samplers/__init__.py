"""Samplers: from noise to text."""

from textflow.samplers.base import Sampler as Sampler
from textflow.samplers.base import Trace as Trace
from textflow.samplers.base import sample as sample
from textflow.samplers.early_stop import EarlyStop as EarlyStop
from textflow.samplers.euler import Euler as Euler
from textflow.samplers.head_start import HeadStart as HeadStart
from textflow.samplers.heun import Heun as Heun
from textflow.samplers.multistep import Multistep as Multistep
from textflow.samplers.next_token import NextToken as NextToken
from textflow.samplers.prompted import Prompt as Prompt
from textflow.samplers.prompted import answer as answer
from textflow.samplers.reinject import Reinject as Reinject
from textflow.samplers.relook import Relook as Relook
from textflow.samplers.renoise import Renoise as Renoise
from textflow.samplers.unmask import Unmask as Unmask
