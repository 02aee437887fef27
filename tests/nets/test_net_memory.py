"""Cheaper forms of the network give equal numbers: recomputing, compiling, decoding few tokens at a time."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.tiny_elf import tiny_elf
from textflow.codecs import EmbeddingTable
from textflow.layers import transformer
from textflow.nets import ELF
from textflow.paths import LinearPath
from textflow.readouts import FromNet, MatchedFromNet, View
from textflow.schedules import LogitNormal
from textflow.types import Conditioning, Posterior


def gradients(net: ELF) -> Tensor:
    torch.manual_seed(1)
    z, t = torch.randn(3, 5, 12), LogitNormal().sample(3)
    net.predict_x0(net.forward_hidden(z, t, Conditioning(self_cond=z))).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def test_recomputing_gives_the_same_gradients_and_saves_less() -> None:
    results = []
    for checkpointing in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            results.append((gradients(tiny_elf(activation_checkpointing=checkpointing)), sizes))
    (plain, plain_sizes), (recomputed, recomputed_sizes) = results
    assert torch.equal(plain, recomputed) and sum(recomputed_sizes) < sum(plain_sizes)


@pytest.mark.slow
def test_compiled_blocks_give_the_same_gradients() -> None:
    plain, compiled = gradients(tiny_elf()), gradients(tiny_elf(compile_blocks=True))
    assert_close(compiled, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("readout", [FromNet(), MatchedFromNet()])
@pytest.mark.parametrize("prompted", [False, True])
@torch.no_grad()
def test_tokens_are_the_argmax_of_the_logits(
    readout: FromNet | MatchedFromNet, prompted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, z = tiny_elf(), torch.randn(3, 600, 12)
    cond = Conditioning(guidance=torch.full((3,), 2.0))
    if prompted:
        cond = cond._replace(prompt=torch.randn_like(z), prompt_mask=(torch.arange(600) < 100).expand(3, -1))
    view = View(z, 0.4, Posterior(z), LinearPath(), EmbeddingTable(50, 12), net, cond)
    sizes, forward = list[int](), transformer.LMHead.forward
    monkeypatch.setattr(
        transformer.LMHead, "forward", lambda self, h: sizes.append(h[..., 0].numel()) or forward(self, h)
    )
    assert torch.equal(readout.decode(view), readout.logits(view).argmax(-1))
    assert sizes == [600, 600, 600, 1800]  # a row at a time


def test_the_likeliest_tokens_come_in_parts_that_bound_the_logits() -> None:
    torch.manual_seed(0)
    head, hidden = transformer.LMHead(4, 3, 10), torch.randn(2, 7, 4)
    assert torch.equal(head.argmax(hidden, budget=25), head(hidden).argmax(-1))
