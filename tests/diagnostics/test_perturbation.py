"""Random perturbations of a residual's length."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.independent_tokens import fresh_noise, pair
from textflow.diagnostics.perturbation import random_directions, shuffle_residuals, token_nll
from textflow.diagnostics.residual import terminal_posterior
from textflow.noise import Noise
from textflow.types import Posterior


def test_the_row_control_stays_in_the_row_space() -> None:
    r, mask = Noise(range(4)).normal(50, 16).double(), torch.ones(4, 50, dtype=torch.bool)
    basis = torch.eye(16, dtype=torch.float64)[:3]
    delta = random_directions(r, mask, fresh_noise(4), "row", basis)
    assert_close(delta[..., 3:], torch.zeros(4, 50, 13, dtype=torch.float64))
    assert_close(delta.norm(dim=-1), r[..., :3].norm(dim=-1))
    assert abs(float((delta[..., :3] * r[..., :3]).sum(-1).mean())) < 0.5, "random directions, not the residual's"
    with pytest.raises(ValueError, match="row space"):
        random_directions(r, mask, fresh_noise(4), "row", None)


def test_shuffled_residuals_come_from_the_same_sequence_and_preserve_lengths() -> None:
    r = torch.arange(1.0, 13).reshape(2, 6, 1).double().expand(2, 6, 3)
    mask = torch.tensor([[True, True, False, True, False, True], [True] * 6])
    r = torch.where(mask[..., None], r, 0)
    mixed = shuffle_residuals(r, mask, Noise([3, 4]))
    assert sorted(mixed[0, :, 0].tolist()) == [0, 0, 1, 2, 4, 6] and not mixed[0, ~mask[0]].any()
    assert sorted(mixed[1, :, 0].tolist()) == [7, 8, 9, 10, 11, 12] and not torch.equal(mixed, r)
    other = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    directions = random_directions(torch.where(mask[..., None], other, 0), mask, Noise([3, 4]), "shuffled", None)
    assert_close(directions.norm(dim=-1), torch.where(mask, other.norm(dim=-1), 0))


def test_the_loss_is_accurate_where_the_decoder_is_almost_sure() -> None:
    logits = torch.tensor([[[30.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    result = token_nll(logits, torch.zeros(1, 2, dtype=torch.long))
    assert_close(result, torch.tensor([[2 * math.exp(-30), math.log(3)]], dtype=torch.float64), rtol=1e-6, atol=0)
    unlikely = token_nll(torch.tensor([[[0.0, 900.0]]]), torch.zeros(1, 1, dtype=torch.long))
    assert float(unlikely) == 900


def test_the_residual_covers_any_number_of_latents_and_both_passes() -> None:
    task = pair(2.0, 4, scale=3.0)
    x, mask = task.draw(2, 8)[1], torch.zeros(2, 4, dtype=torch.bool)  # eight latents for four tokens
    terminal = terminal_posterior(task.denoise, task.path, x, mask, 0.5, Noise([0, 1]))
    assert_close(terminal.residual, terminal.x0_pred - x)
    task, conditions = pair(2.0, 4, scale=3.0), []

    def denoise(z: Tensor, t: float, self_cond: Tensor | None = None, *_: object) -> Posterior:
        conditions.append(self_cond)
        return task.denoise(z, t)

    x = task.draw(2, 8)[1]
    terminal_posterior(denoise, task.path, x, torch.ones(2, 8, dtype=torch.bool), 0.5, Noise([0, 1]), num_passes=2)
    first = task.denoise(task.path.mix(x, Noise([0, 1]).normal_like(x), 0.5), 0.5).mean
    assert conditions[0] is None and torch.equal(conditions[1], first)
