"""Distillation: students that replace many steps of a teacher by few, and flow maps trained from data."""

from textflow.distill.step import StepDistillation as StepDistillation
from textflow.distill.flow_map_distillation import FlowMapDistillation as FlowMapDistillation
from textflow.distill.flow_map import FlowMap as FlowMap
from textflow.distill.flow_map import TimePairs as TimePairs
from textflow.distill.token_distillation import TokenDistillation as TokenDistillation
from textflow.distill.mean_flow import MeanFlowObjective as MeanFlowObjective
