"""Time schedules: distributions over time, for training and for sampling."""

from textflow.schedules.base import RandomGrid as RandomGrid
from textflow.schedules.base import TimeSchedule as TimeSchedule
from textflow.schedules.decode_error import DecodeError as DecodeError
from textflow.schedules.flip_rate import FlipRate as FlipRate
from textflow.schedules.logit_normal import LogitNormal as LogitNormal
from textflow.schedules.decode_error import OneHotDecodeError as OneHotDecodeError
from textflow.schedules.uniform import Uniform as Uniform
from textflow.schedules.gumbel import Gumbel as Gumbel
