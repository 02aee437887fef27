"""Samplers: from noise to text."""

from textflow.samplers.base import Sampler as Sampler
from textflow.samplers.base import Trace as Trace
from textflow.samplers.base import sample as sample
from textflow.samplers.euler import Euler as Euler
from textflow.samplers.heun import Heun as Heun
from textflow.samplers.reinject import Reinject as Reinject
