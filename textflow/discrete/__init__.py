"""Discrete diffusion over tokens (MDLM): process, network, objective and sampler."""

from textflow.discrete.absorbing import Masking as Masking
from textflow.discrete.mdlm import MDLM as MDLM
from textflow.discrete.objective import SUBS as SUBS
from textflow.discrete.sampler import Unmask as Unmask
