"""Objectives: what denoisers are trained for."""

from textflow.objectives.base import Objective as Objective
from textflow.objectives.elf import Draws as Draws
from textflow.objectives.elf import ELFObjective as ELFObjective
from textflow.objectives.distill import Distill as Distill
from textflow.objectives.distill_flow import DistillFlow as DistillFlow
from textflow.objectives.flow_map import FlowMap as FlowMap
from textflow.objectives.flow_map import Spans as Spans
from textflow.objectives.mean_flow import MeanFlowObjective as MeanFlowObjective
from textflow.objectives.masked import SUBS as SUBS
