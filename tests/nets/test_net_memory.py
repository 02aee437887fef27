"""What makes the network cheaper moves no number: recomputing, compiling, reading few tokens at a time."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from textflow.codecs import EmbeddingTable, LatentSpace
from textflow.layers import transformer
from textflow.layers.functional import linear_nll
from textflow.nets import ELF
from textflow.paths import LinearPath
from textflow.readouts import FromNet, MatchedFromNet, View
from textflow.schedules import LogitNormal
from textflow.types import Conditioning, Posterior

SHAPE = {"codec": LatentSpace(12, 50), "width": 16, "depth": 2, "heads": 2, "bottleneck": 8}


def net(**how: bool) -> ELF:
    torch.manual_seed(0)
    made = ELF(**SHAPE, **how)
    torch.nn.init.normal_(made.out.weight, std=0.02)
    return made


def gradients(made: ELF) -> Tensor:
    torch.manual_seed(1)
    z, t = torch.randn(3, 5, 12), LogitNormal().sample(3)
    made.predict_x0(made.forward_hidden(z, t, Conditioning(self_cond=z))).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])


def test_recomputing_gives_the_same_gradients_and_keeps_less() -> None:
    kept: dict[bool, int] = {}
    found = {}
    for checkpointing in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            made = net(activation_checkpointing=checkpointing)
            found[checkpointing] = gradients(made)
        kept[checkpointing] = sum(sizes[: len(sizes)])
    assert torch.equal(found[False], found[True])
    assert kept[True] < kept[False]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_gradients() -> None:
    plain, compiled = gradients(net()), gradients(net(compile_blocks=True))
    assert_close(compiled, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_rotation_in_real_numbers_is_the_complex_one() -> None:
    torch.manual_seed(0)
    x, turn = (
        torch.randn(2, 3, 7, 8, dtype=torch.float64),
        transformer.rope(5, 8, torch.zeros((), dtype=torch.float64)),
    )
    assert_close(
        transformer.apply_rope_interleaved(x, torch.view_as_real(turn)),
        transformer.apply_rope_interleaved(x, turn),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("readout", [FromNet(), MatchedFromNet()])
@pytest.mark.parametrize("prompted", [False, True])
@torch.no_grad()
def test_tokens_are_the_argmax_of_the_logits(
    readout: FromNet | MatchedFromNet, prompted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, z = net(), torch.randn(3, 600, 12)
    given = Conditioning(guidance=torch.full((3,), 2.0))
    if prompted:
        given = given._replace(prompt=torch.randn_like(z), prompt_mask=(torch.arange(600) < 100).expand(3, -1))
    view = View(z, 0.4, Posterior(z), LinearPath(), EmbeddingTable(50, 12), made, given)
    shapes: list[int] = []
    forward = transformer.LMHead.forward
    monkeypatch.setattr(
        transformer.LMHead, "forward", lambda self, h: shapes.append(h[..., 0].numel()) or forward(self, h)
    )
    assert torch.equal(readout.decode(view), readout.logits(view).argmax(-1))
    assert shapes == [600, 600, 600, 1800]  # a row at a time


def test_the_likeliest_tokens_come_in_parts_that_bound_the_logits() -> None:
    torch.manual_seed(0)
    words, hidden = transformer.LMHead(4, 3, 10), torch.randn(2, 7, 4)
    assert torch.equal(words.argmax(hidden, budget=25), words(hidden).argmax(-1))


@pytest.mark.parametrize("budget", [22, 10**6])
def test_tokens_of_the_chunked_cross_entropy_can_count_unlike(budget: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((7, 3), (11, 3), (11,))]
    ids, each = torch.randint(11, (7,)), torch.tensor([0.0, 1, 0.5, 2, 0, 1, 3], dtype=torch.float64)
    ours = linear_nll(*parts, ids, budget, each)
    logits = torch.nn.functional.linear(*parts)
    theirs = (torch.nn.functional.cross_entropy(logits, ids, reduction="none") * each).sum()
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for found, expected in zip(torch.autograd.grad(ours, parts), torch.autograd.grad(theirs, parts), strict=True):
        assert_close(found, expected, rtol=1e-12, atol=1e-12)
