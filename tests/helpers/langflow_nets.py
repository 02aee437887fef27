"""LangFlow from tensors of the published code, and tiny ones."""

from typing import Any

import torch
from torch import Tensor

from tests.helpers.recordings import part
from textflow.codecs import EmbeddingTable
from textflow.convert.dit_layout import infer_sizes, load_official
from textflow.convert.langflow import textflow_name
from textflow.nets import LangFlow
from textflow.schedules import Gumbel


def langflow(tensors: dict[str, Tensor]) -> tuple[LangFlow, Gumbel]:
    """The recorded net, in eval mode, and its noise levels."""
    official = part(tensors, "weights.backbone.")
    sizes = infer_sizes(official)
    net = LangFlow(EmbeddingTable(sizes.pop("vocab_size"), sizes.pop("width"), trainable=True), **sizes).eval()
    load_official(net, official, textflow_name)
    law = Gumbel()
    law.load_state_dict(part(tensors, "weights.proposal."))
    return net, law


def tiny_langflow(vocab: int = 11, dim: int = 8, **options: Any) -> LangFlow:
    """A LangFlow with random weights everywhere."""
    torch.manual_seed(0)
    net = LangFlow(EmbeddingTable(vocab, dim, trainable=True), **({"depth": 1, "heads": 2, "cond_width": 4} | options))
    for p in net.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return net.eval()
