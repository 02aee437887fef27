"""Objectives: what denoisers are trained for."""

from textflow.objectives.base import Objective as Objective
from textflow.objectives.elf import Draws as Draws
from textflow.objectives.elf import ELFObjective as ELFObjective
