"""Readouts: beliefs -> logits."""

from textflow.readouts.autoregressive import Autoregressor as Autoregressor
from textflow.readouts.contextual_rounding import ContextualRounding as ContextualRounding
from textflow.readouts.base import Readout as Readout
from textflow.readouts.base import View as View
from textflow.readouts.from_belief import FromCodec as FromCodec
from textflow.readouts.from_belief import FromPosterior as FromPosterior
from textflow.readouts.from_net import FromNet as FromNet
from textflow.readouts.from_net import MatchedFromNet as MatchedFromNet
