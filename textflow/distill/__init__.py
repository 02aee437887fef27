"""Distillation: students that take a few steps in place of a teacher's many, and flow maps learned from data."""

from textflow.distill.step import Distill as Distill
from textflow.distill.flow_map_distillation import DistillFlow as DistillFlow
from textflow.distill.flow_map import FlowMap as FlowMap
from textflow.distill.flow_map import Spans as Spans
from textflow.distill.mean_flow import MeanFlowObjective as MeanFlowObjective
