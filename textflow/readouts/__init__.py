"""Readouts: beliefs -> logits."""

from textflow.readouts.base import Readout as Readout
from textflow.readouts.from_posterior import FromBelief as FromBelief
from textflow.readouts.from_codec import FromCodec as FromCodec
from textflow.readouts.from_net import FromNet as FromNet
from textflow.readouts.from_net import Matched as Matched
