"""Commit ablation on texts whose tokens are all equal."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.independent_tokens import CommitInOrder, atoms, pair
from textflow.diagnostics.ablation import SoftFeedback, ablation
from textflow.escapes import NoEscape
from textflow.escapes.base import Escape
from textflow.noise import Noise
from textflow.samplers import Euler, sample
from textflow.types import Ids, Latents, Posterior

V, SLIP = 32, 1e-3


def nll(ids: Ids) -> torch.Tensor:
    """-log p of a text whose tokens repeat the first, except for slips."""
    same = (ids[:, 1:] == ids[:, :1]).double()
    return math.log(V) - (same * math.log(1 - SLIP) + (1 - same) * math.log(SLIP / (V - 1))).sum(1)


def masked(fed_soft: bool, rows: int = 64, length: int = 15, K: int = 8) -> Ids:
    """Masked decoding, one token and then two per call: fed tokens sharpen gamma of the rest."""
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


def test_masked_decoding_collapses_under_soft_feedback() -> None:
    hard, soft = masked(False), masked(True)
    result = ablation(hard, soft, nll, torch.ones_like(hard, dtype=torch.bool))
    assert result.nll == pytest.approx(math.log(V) / 15 + 14 / 15 * 0.008, abs=0.05)  # the entropy of the task
    assert result.delta_nll > 3 and result.relative_change > 0.8 and result.size.num_positions == 64 * 15


def test_soft_feedback_changes_nothing_without_an_escape() -> None:
    task = atoms(16, 4, 0.0)

    def sampled(escape: Escape) -> Ids:
        def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
            belief = task.denoise(z, t)
            return escape(belief, t, lambda: belief.logits, lambda ids: task.codes[ids], Noise([0, 1, 2]))

        z = Noise([4, 5, 6]).normal(10, 4).double()
        grid = [0.0, 0.25, 0.5, 0.75, 1.0]
        return task.read(sample(denoise, Euler(), task.path, grid, z, Noise([0, 1, 2])).z).argmax(-1)

    hard, soft = sampled(NoEscape()), sampled(SoftFeedback(NoEscape()))
    result = ablation(hard, soft, nll, torch.ones_like(hard, dtype=torch.bool))
    assert torch.equal(hard, soft)
    assert result.delta_nll == result.delta_entropy == result.changed_share == result.relative_change == 0


def test_soft_feedback_reports_the_committed_tokens() -> None:
    task, mean = pair(2.0, 4, scale=1.0), Noise([1]).normal(3, 4).double()
    belief = task.denoise(mean, 0.5)
    args = (belief, 0.5, lambda: belief.logits, lambda ids: task.codes[ids], Noise([0]))
    hard, soft = CommitInOrder()(*args), SoftFeedback(CommitInOrder())(*args)
    assert torch.equal(soft.mean, belief.mean) and not torch.equal(hard.mean, belief.mean)
    assert torch.equal(soft.committed, hard.committed)


def test_the_ablation_of_two_small_texts_matches_hand_counts() -> None:
    hard, soft = torch.tensor([[0, 0, 1, 9], [0, 1, 1, 9]]), torch.tensor([[0, 0, 0, 3], [0, 0, 0, 2]])
    mask = torch.tensor([[True, True, True, False]] * 2)
    result = ablation(hard, soft, lambda ids: ids[:, :3].sum(1).double(), mask)
    assert (result.nll, result.soft_nll, result.changed_share, result.chance_share) == (0.5, 0.0, 0.5, 0.5)
    assert result.relative_change == 1 and result.soft_entropy == 0
    assert_close(result.delta_entropy, -math.log(2))
    assert ablation(soft, soft, lambda ids: ids[:, :3].sum(1).double(), mask).relative_change == 0
