"""Discrete diffusion over tokens: process, network, objective and sampler (MDLM, Duo, Loopholing)."""

from textflow.discrete.absorbing import Absorbing as Absorbing
from textflow.discrete.base import DiscreteObjective as DiscreteObjective
from textflow.discrete.base import DiscreteSampler as DiscreteSampler
from textflow.discrete.dcd import DiscreteConsistency as DiscreteConsistency
from textflow.discrete.denoiser import TokenDenoiseFn as TokenDenoiseFn
from textflow.discrete.denoiser import TokenDiT as TokenDiT
from textflow.discrete.diladiff import DiLaDiffCodec as DiLaDiffCodec
from textflow.discrete.diladiff import LatentTokenDiT as LatentTokenDiT
from textflow.discrete.diladiff import MaskedDecoding as MaskedDecoding
from textflow.discrete.duo import DuoObjective as DuoObjective
from textflow.discrete.duo import DuoSampler as DuoSampler
from textflow.discrete.loopholing import LoopholingDiT as LoopholingDiT
from textflow.discrete.masked_reconstruction import MaskedReconstruction as MaskedReconstruction
from textflow.discrete.mdlm import MDLMObjective as MDLMObjective
from textflow.discrete.mdlm import MDLMSampler as MDLMSampler
from textflow.discrete.process import Process as Process
from textflow.discrete.uniform import UniformProcess as UniformProcess
