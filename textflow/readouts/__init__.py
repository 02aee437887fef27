"""Readouts: latents -> logits."""

from textflow.readouts.base import Readout as Readout
from textflow.readouts.from_codec import FromCodec as FromCodec
from textflow.readouts.from_net import FromNet as FromNet
