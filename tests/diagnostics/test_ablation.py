"""Commit ablation on texts whose tokens are all equal."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.independent_tokens import First, atoms, pair
from textflow.diagnostics.ablation import SoftFeedback, ablation
from textflow.escapes import NoEscape
from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.samplers import Euler, sample
from textflow.types import Ids, Latents, Posterior

V, SLIP = 32, 1e-3


def nll(ids: Ids) -> torch.Tensor:
    """A text whose tokens all repeat the first, but for slips."""
    same = (ids[:, 1:] == ids[:, :1]).double()
    return math.log(V) - (same * math.log(1 - SLIP) + (1 - same) * math.log(SLIP / (V - 1))).sum(1)


def masked(fed_soft: bool, rows: int = 64, length: int = 15, K: int = 8) -> Ids:
    """Masked decoding, a token and then two at a call: fed tokens sharpen gamma of the rest."""
    codes = torch.eye(V, dtype=torch.float64)
    noise = Noise(range(rows))
    fed, final = torch.zeros(rows, length, V, dtype=torch.float64), torch.zeros(rows, length, dtype=torch.long)
    for k in range(K):
        at = slice(max(2 * k - 1, 0), 2 * k + 1)
        evidence = fed[:, : at.start].sum(1) * math.log((1 - SLIP) * (V - 1) / SLIP)
        gamma = evidence.softmax(-1)
        u = noise.uniform(at.stop - at.start)
        final[:, at] = torch.searchsorted(gamma.cumsum(-1), u).clamp_max(V - 1)
        fed[:, at] = gamma[:, None] @ codes if fed_soft else codes[final[:, at]]
    return final


def test_masked_decoding_collapses_when_its_choices_are_fed_softly() -> None:
    hard, soft = masked(False), masked(True)
    found = ablation(hard, soft, nll, torch.ones_like(hard, dtype=torch.bool))
    assert found.nll == pytest.approx(math.log(V) / 15 + 14 / 15 * 0.008, abs=0.05)  # the entropy of the world
    assert found.delta_nll > 3 and found.relative_change > 0.8 and found.size.num_positions == 64 * 15


def test_a_flow_without_an_escape_does_not_notice_the_ablation() -> None:
    world = atoms(16, 4, 0.0)

    def made(escape: Escape) -> Ids:
        def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
            belief = world.denoise(z, t)
            return escape(belief, t, lambda: belief.logits, lambda ids: world.codes[ids], Noise([0, 1, 2]))

        z = Noise([4, 5, 6]).normal(10, 4).double()
        grid = [0.0, 0.25, 0.5, 0.75, 1.0]
        return world.read(sample(denoise, Euler(), world.path, grid, z, Noise([0, 1, 2])).z).argmax(-1)

    hard, soft = made(NoEscape()), made(SoftFeedback(NoEscape()))
    found = ablation(hard, soft, nll, torch.ones_like(hard, dtype=torch.bool))
    assert torch.equal(hard, soft)
    assert found.delta_nll == found.delta_entropy == found.changed_share == found.relative_change == 0


def test_an_ablated_escape_still_says_what_it_chose() -> None:
    world, mean = pair(2.0, 4, scale=1.0), Noise([1]).normal(3, 4).double()
    belief = world.denoise(mean, 0.5)
    ask = (belief, 0.5, lambda: belief.logits, lambda ids: world.codes[ids], Noise([0]))
    hard, soft = First()(*ask), SoftFeedback(First())(*ask)
    assert torch.equal(soft.mean, belief.mean) and not torch.equal(hard.mean, belief.mean)
    assert torch.equal(soft.committed, hard.committed)


def test_the_ablations_numbers_are_those_of_two_small_texts() -> None:
    hard, soft = torch.tensor([[0, 0, 1, 9], [0, 1, 1, 9]]), torch.tensor([[0, 0, 0, 3], [0, 0, 0, 2]])
    mask = torch.tensor([[True, True, True, False]] * 2)
    found = ablation(hard, soft, lambda ids: ids[:, :3].sum(1).double(), mask)
    assert (found.nll, found.soft_nll, found.changed_share, found.chance_share) == (0.5, 0.0, 0.5, 0.5)
    assert found.relative_change == 1 and found.soft_entropy == 0
    assert_close(found.delta_entropy, -math.log(2))
    assert ablation(soft, soft, lambda ids: ids[:, :3].sum(1).double(), mask).relative_change == 0
