"""Denoisers and the layers that they are made of."""

from textflow.nets.base import Denoiser as Denoiser
from textflow.nets.base import DecodingDenoiser as DecodingDenoiser
from textflow.nets.cola import ColaDiT as ColaDiT
from textflow.nets.elf import ELF as ELF
from textflow.layers.frozen import Frozen as Frozen
from textflow.nets.dit import DiT as DiT
from textflow.nets.langflow import LangFlow as LangFlow
from textflow.nets.residual_flow_map import ResidualFlowMap as ResidualFlowMap
from textflow.nets.unet_bert import UNetBERT as UNetBERT
