"""Discrete diffusion over tokens: process, network, objective and sampler (MDLM)."""

from textflow.discrete.absorbing import Absorbing as Absorbing
from textflow.discrete.base import DiscreteObjective as DiscreteObjective
from textflow.discrete.base import DiscreteSampler as DiscreteSampler
from textflow.discrete.base import Process as Process
from textflow.discrete.base import TokenDenoiseFn as TokenDenoiseFn
from textflow.discrete.denoiser import TokenDiT as TokenDiT
from textflow.discrete.mdlm import MDLMObjective as MDLMObjective
from textflow.discrete.mdlm import MDLMSampler as MDLMSampler
