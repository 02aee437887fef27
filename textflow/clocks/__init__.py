"""Clocks: laws of time."""

from textflow.clocks.base import Clock as Clock
from textflow.clocks.decode_error import DecodeError as DecodeError
from textflow.clocks.drawn import Drawn as Drawn
from textflow.clocks.flip import Flip as Flip
from textflow.clocks.logit_normal import LogitNormal as LogitNormal
from textflow.clocks.uniform import Uniform as Uniform
