"""Clocks: laws of time."""

from textflow.schedules.base import Clock as Clock
from textflow.schedules.decode_error import DecodeError as DecodeError
from textflow.schedules.random_grid import Drawn as Drawn
from textflow.schedules.flip_rate import Flip as Flip
from textflow.schedules.logit_normal import LogitNormal as LogitNormal
from textflow.schedules.uniform import Uniform as Uniform
