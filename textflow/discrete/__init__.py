"""Discrete diffusion over tokens (MDLM): process, network, objective and sampler."""

from textflow.discrete.absorbing import Absorbing as Absorbing
from textflow.discrete.mdlm import MDLM as MDLM
from textflow.discrete.objective import MDLMObjective as MDLMObjective
from textflow.discrete.sampler import MDLMSampler as MDLMSampler
