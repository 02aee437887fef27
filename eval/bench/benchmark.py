"""Contest: one piece of work in several forms that must agree."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from textflow.codecs import T5
from textflow.nets import ELF, Frozen
from textflow.types import Batch

from .sizes import Setting


class Contest(ABC):
    """The same work in the lean form and in the straightforward one.

    Args:
        setting: size, device, precision.
    """

    forms: tuple[str, ...] = ("lean", "plain")

    def __init__(self, setting: Setting) -> None:
        torch.manual_seed(0)
        self.setting = setting

    @abstractmethod
    def run(self, form: str) -> None:
        """The work, once."""

    @abstractmethod
    def answer(self, form: str) -> Tensor:
        """What a form finds, flat: the forms must agree on it."""

    def flops(self, form: str) -> float | None:
        """Of one run, by formula; None where products of matrices are not what counts."""
        return None

    def figures(self) -> dict[str, float]:
        """Other numbers of the record."""
        return {}

    def autocast(self, form: str = "lean") -> AbstractContextManager[object]:
        """The precision of a form."""
        enabled = self.setting.bf16 and not form.endswith("fp32")
        return torch.autocast(self.setting.device, torch.bfloat16, enabled=enabled)


def network(setting: Setting, form: str = "plain") -> ELF:
    """An ELF of the size; a trained net's last layer is not zero, so this one's is not.

    Args:
        setting: size and device; compiling, recomputing and fused kernels are the lean form's.
        form: lean or plain; both have the same weights.
    """
    s, how = setting.size, faster(setting) if form == "lean" else {}
    torch.manual_seed(1)
    net = ELF(s.dim, s.vocab, s.width, s.depth, s.heads, s.bottleneck, **how)
    torch.nn.init.normal_(net.out.weight, std=0.02)
    return net.to(setting.device)


def faster(setting: Setting) -> dict[str, Any]:
    """The options of the lean form's network."""
    return {"compiled": setting.compiled, "recompute": setting.recompute, "kernels": setting.kernels}


def pair(setting: Setting) -> dict[str, ELF]:
    """The network of each form; one network where they do not differ."""
    plain = network(setting)
    alike = not setting.compiled and not setting.recompute and setting.kernels == "torch"
    return {"lean": plain if alike else network(setting, "lean"), "plain": plain}


def t5(setting: Setting) -> T5:
    """The codec T5 of the size, with random weights."""
    from transformers import T5Config, T5EncoderModel

    s = setting.size
    config = T5Config(
        vocab_size=s.vocab, d_model=s.dim, d_kv=s.dim // 8, d_ff=s.hidden, num_layers=s.layers, num_heads=8,
        dropout_rate=0.0,
    )  # fmt: skip
    codec = T5(s.vocab, dim=s.dim)
    codec.encoder = Frozen(T5EncoderModel(config))
    return codec.to(setting.device)


def text(setting: Setting) -> Batch:
    """Random tokens, all of them text."""
    s = setting.size
    ids = torch.randint(s.vocab, (s.rows, s.length), device=setting.device)
    return Batch(ids, torch.ones_like(ids, dtype=torch.bool))


def gradients(net: torch.nn.Module) -> Tensor:
    """All gradients, flat."""
    return torch.cat([p.grad.flatten().float() for p in net.parameters() if p.grad is not None])
