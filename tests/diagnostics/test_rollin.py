"""Roll-in and cumulative flips with known values."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, fresh_noise, normal_cdf, pair, text_and_mask
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.rollin import (
    FlipCounts,
    RollInRates,
    TokenLogitsFn,
    cumulative_flips,
    interior_times,
    rollin_curves,
    rollin_flips,
    rollin_rates,
)
from textflow.noise import Noise
from textflow.samplers import Euler
from textflow.types import Latents, Logits, Posterior

GRID = [0.0, 0.2, 0.5, 0.8, 1.0]


TWO_CODES, MANY_CODES, FEW_CODES = pair(2.0, 4, scale=3.0), atoms(64, 8, 0.0), atoms(16, 4, 0.0)


def rollin(
    task: Codes, rows: int, length: int, times: list[float] = GRID, tokens: TokenLogitsFn | None = None
) -> list[RollInRates]:
    inputs = (task.denoise, task.read, task.path, *text_and_mask(task, rows, length), times, fresh_noise(rows), tokens)
    return [rollin_rates(counts, t) for counts, t in zip(rollin_flips(*inputs), interior_times(times), strict=True)]


def cumulative(task: Codes, rows: int, length: int, times: list[float] = GRID) -> list[FlipCounts]:
    real = (*text_and_mask(task, rows, length), times, fresh_noise(rows))
    return cumulative_flips(task.denoise, Euler(), task.read, task.path, *real)


def test_the_flip_rate_of_two_codes_is_a_normal_tail_and_the_bayes_error() -> None:
    for rates in rollin(TWO_CODES, 40, 500):
        known = normal_cdf(-2 * rates.t / (3 * (1 - rates.t)))
        assert rates.flip_rate == pytest.approx(known, abs=4 * math.sqrt(known / 20_000))
        assert rates.bayes_error == pytest.approx(known, abs=4 * math.sqrt(known / 20_000))
        assert rates.token_error == rates.flip_rate and rates.excess_flip_rate == 0, "mean and posterior decode alike"
        assert abs(rates.z_score) < 4 and rates.size.num_positions == 20_000


def test_an_exact_posterior_is_calibrated_and_a_sharpened_one_or_a_mean_is_not() -> None:
    times = [0.0, 0.3, 0.5, 1.0]
    sharpened = rollin(MANY_CODES, 40, 500, times, lambda z, t, belief: 2 * belief.logits)
    for exact, sharp in zip(rollin(MANY_CODES, 40, 500, times), sharpened, strict=True):
        assert abs(exact.z_score) < 4 and sharp.z_score > 10 and sharp.token_error == exact.token_error
    excess = [rates.excess_flip_rate for rates in rollin(MANY_CODES, 20, 500)]
    assert excess[0] > 0.02 and 0 <= excess[-1] < excess[0]


def test_the_z_score_of_a_calibrated_posterior_has_unit_spread() -> None:
    u = Noise([3]).uniform(60, 30, 40)[0]  # 60 samples of 30 sequences of 40 positions that err with chance .3
    n = torch.full((30,), 40.0, dtype=torch.float64)
    samples = [FlipCounts(n, n, (row < 0.3).double().sum(1), 0.3 * n) for row in u]
    scores = torch.tensor([rollin_rates(counts, 0.5).z_score for counts in samples])
    assert float(scores.std()) == pytest.approx(1, abs=0.35) and abs(float(scores.mean())) < 0.6  # errors .09, .13


def test_one_step_or_no_token_posterior_gives_no_bayes_error() -> None:
    x, mask = text_and_mask(TWO_CODES, 3, 20)
    bare = lambda z, t, *_: Posterior(TWO_CODES.denoise(z, t).mean)  # noqa: E731
    (counts,) = rollin_flips(bare, TWO_CODES.read, TWO_CODES.path, x, mask, [0.0, 0.5, 1.0], fresh_noise(3))
    rates = rollin_rates(counts, 0.5)
    assert math.isnan(rates.bayes_error) and math.isnan(rates.z_score) and 0 < rates.flip_rate < 1
    assert interior_times([0.0, 1.0]) == [] == rollin(TWO_CODES, 2, 5, [0.0, 1.0])
    with pytest.raises(ValueError, match="use 2 steps or more"):
        cumulative(TWO_CODES, 2, 5, [0.0, 1.0])


def test_cumulative_flips_equal_the_bayes_error_of_the_first_time() -> None:
    """Without context and with an exact flow, all flips are due to the noise at the first time."""
    flips = cumulative(TWO_CODES, 40, 500)
    first, *_, final = [rollin_rates(counts, t) for counts, t in zip(flips, GRID[1:], strict=True)]
    assert first.flip_rate == pytest.approx(normal_cdf(-2 * 0.2 / (3 * 0.8)), abs=0.02)
    assert final.flip_rate == pytest.approx(first.flip_rate, abs=1e-12), "the sign of z does not change along the flow"


def test_the_first_roll_in_is_the_first_belief_of_the_sampler() -> None:
    x, mask = text_and_mask(FEW_CODES, 4, 50)
    single = rollin_flips(FEW_CODES.denoise, FEW_CODES.read, FEW_CODES.path, x, mask, GRID, fresh_noise(4))
    along = cumulative(FEW_CODES, 4, 50)
    assert all(torch.equal(a, b) for a, b in zip(single[0], along[0], strict=True))
    assert not torch.equal(single[2].flips, along[2].flips)


def test_the_terminal_flip_rate_falls_with_the_number_of_steps() -> None:
    x, mask = text_and_mask(FEW_CODES, 4, 50)
    curves = []
    for steps in (2, 4, 8):
        grid = [i / steps for i in range(steps + 1)]
        single = rollin_flips(FEW_CODES.denoise, FEW_CODES.read, FEW_CODES.path, x, mask, grid, fresh_noise(4))
        curves.append(rollin_curves(single, cumulative(FEW_CODES, 4, 50, grid), grid))
    assert [len(curve.rollin) for curve in curves] == [len(curve.cumulative) for curve in curves] == [1, 3, 7]
    assert [curve.rollin[-1].t for curve in curves] == [0.5, 0.75, 0.875]
    terminal = [curve.rollin[-1].flip_rate for curve in curves]
    assert terminal == sorted(terminal, reverse=True) and curves[-1].final.t == 1.0


def test_padding_changes_nothing_and_a_batch_is_its_sequences() -> None:
    task = atoms(16, 4, 0.0)
    x, mask = text_and_mask(task, 4, 30)
    mask[:, 20:] = False
    dirty = torch.where(mask[..., None], x, 55.0)

    def tokens(z: Latents, t: float, belief: Posterior) -> Logits:
        assert belief.logits is not None
        return belief.logits

    def flips(x: Latents, first: int = 0) -> list[FlipCounts]:
        noise = Noise(range(5000 + first, 5000 + first + len(x)))
        part = mask[first : first + len(x)]
        return rollin_flips(task.denoise, task.read, task.path, x, part, GRID, noise, tokens) + cumulative_flips(
            task.denoise, Euler(), task.read, task.path, x, part, GRID, noise, tokens
        )

    together = flips(x)
    for a, b in zip(together, flips(dirty), strict=True):
        assert torch.equal(a.flips, b.flips) and torch.equal(a.token_errors, b.token_errors)
        assert a.num_positions.tolist() == [20.0] * 4
    separate = [flips(x[i : i + 1], i) for i in range(4)]
    for a, parts in zip(together, zip(*separate, strict=True), strict=True):
        for total, joined in zip(a, concat_batches(parts), strict=True):
            assert_close(total, joined, rtol=1e-9, atol=1e-12)
