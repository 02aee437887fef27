"""Tube law against integrals and oracle tasks with an exact posterior."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, normal_cdf, pair, posterior_at, text_and_mask
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.residual import TerminalPosterior, channel_blur
from textflow.diagnostics.tube import (
    TubePositions,
    TubeResult,
    evaluate_tube_law,
    surrogate_flips,
    tube_law,
    tube_positions,
)
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.types import Posterior


def positions_of(task: Codes, terminal: TerminalPosterior, draws: int = 1) -> TubePositions:
    facet = nearest_facets(task.read, terminal.x, weights=task.codes)
    return tube_positions(
        task.read, terminal, task.path, facet, Noise(range(2000, 2000 + len(terminal.x))), num_draws=draws
    )


def tube_result(task: Codes, t: float, rows: int = 20, length: int = 1000, draws: int = 1) -> TubeResult:
    positions = positions_of(task, posterior_at(task, t, rows, length), draws)
    return evaluate_tube_law(positions, t, channel_blur(task.path, t), rows, draws)


def spread_codes(tau: float) -> Codes:
    """64 codes of one length in 8 dimensions."""
    task = atoms(64, 8, tau, scale=2.0)
    return Codes(nn.functional.normalize(task.codes, dim=-1) * 8**0.5, tau, task.path)


def two_modes_flip(s: float) -> float:
    """P(sign(x + s xi) != sign x) for x ~ N(+-1, 1), by quadrature."""
    x = torch.linspace(0, 9, 200_001, dtype=torch.float64)
    dense = (torch.exp(-((x - 1) ** 2) / 2) + torch.exp(-((x + 1) ** 2) / 2)) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(dense * 0.5 * torch.erfc(x / s / math.sqrt(2)), x))


def test_the_law_is_exact_in_one_dimension_for_small_blurs() -> None:
    for s, within in ((0.05, 0.01), (0.1, 0.01), (0.2, 0.01), (2.0, None)):
        f = 2 * math.exp(-0.5) / math.sqrt(2 * math.pi)
        ratio = tube_law(s, f) / two_modes_flip(s)
        assert ratio == pytest.approx(1, abs=within) if within else ratio == pytest.approx(1.31, abs=0.02)


def test_the_law_holds_where_it_is_valid() -> None:
    result = tube_result(atoms(64, 8, 1.0), 0.96)
    assert result.is_valid and not result.density.is_separated
    assert result.ratio == pytest.approx(1, abs=0.08)
    assert result.predicted_any_law == pytest.approx(result.predicted, rel=0.02)
    assert result.normal_blur == pytest.approx(result.posterior_blur, rel=0.02)
    assert result.posterior_blur == pytest.approx(result.channel_blur, rel=0.02)
    assert result.latent_rms == pytest.approx(math.sqrt(2), rel=0.2)
    assert (result.size.num_positions, result.size.num_sequences) == (20_000, 20)


def test_the_law_is_invalid_where_the_density_changes_within_two_blurs() -> None:
    distance = -Noise([11]).uniform(40_000)[0].log()

    def result_at(s: float) -> TubeResult:
        flat = torch.full_like(distance, s)
        return evaluate_tube_law(TubePositions(distance, flat, flat**2, flat, flat, flat, flat, flat), 0.5, s, 10)

    assert result_at(0.1).density_at_2s == pytest.approx(math.exp(-0.2), rel=0.06) and result_at(0.1).is_valid
    assert result_at(0.3).density_at_2s == pytest.approx(math.exp(-0.6), rel=0.06) and not result_at(0.3).is_valid
    far = replace(result_at(0.3), median_distance=9.0)
    assert replace(far, density_at_2s=1.0).is_valid and not far.is_valid
    assert (
        not replace(result_at(0.1), density_at_2s=1.4).is_valid
        and not replace(result_at(0.1), median_distance=0.4).is_valid
    )


def test_the_surrogate_holds_for_separated_codes_and_where_the_law_is_invalid() -> None:
    result = tube_result(spread_codes(0.5), 0.8, 10)
    assert not result.is_valid and result.ratio > 2
    assert abs(result.observed - result.surrogate) < 0.02
    assert result.context_gain == result.surrogate - result.observed
    result = tube_result(spread_codes(0.05), 0.6, 10)
    assert result.density.is_separated and result.predicted < 0.01 and not result.is_valid
    assert result.observed > 0.3 and abs(result.observed - result.surrogate) < 0.02


def test_a_calibrated_posterior_has_a_bayes_error_equal_to_its_token_error() -> None:
    for t in (0.3, 0.5):
        result = tube_result(spread_codes(0.0), t, 10)
        assert result.token_error == pytest.approx(result.bayes_error, abs=4 * math.sqrt(0.25 / 20_000))
        assert result.token_error > 0.1


def test_the_blur_of_the_channel_is_known_and_flips_two_codes_by_a_normal_tail() -> None:
    task = pair(2.0, 4, scale=3.0)
    x, mask = text_and_mask(task, 20, 1000)
    result = surrogate_flips(task.read, x, mask, 1.5, Noise(range(20)), num_draws=4)
    assert float(result.mean()) == pytest.approx(normal_cdf(-2 / 1.5), abs=4 * math.sqrt(0.1 / 80_000))
    assert not surrogate_flips(task.read, x, mask & False, 1.5, Noise(range(20)), num_draws=1).any()
    assert channel_blur(LinearPath(noise_scale=2.0), 0.8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="t = 0"):
        channel_blur(LinearPath(), 0.0)


def test_padding_changes_nothing_and_batches_add_up() -> None:
    task = atoms(16, 4, 0.5)
    terminal = posterior_at(task, 0.8, 4, 30)
    mask = terminal.mask.clone()
    mask[:, 20:] = False
    cut = terminal._replace(mask=mask)
    dirty = cut._replace(
        x=torch.where(mask[..., None], terminal.x, 99.0),
        belief=terminal.belief._replace(mean=torch.where(mask[..., None], terminal.x0_pred, torch.nan)),
    )
    clean, padded = positions_of(task, cut), positions_of(task, dirty)
    assert all(torch.equal(a, b) for a, b in zip(clean, padded, strict=True)) and len(clean.flip) == 80

    def row_positions(i: int) -> TubePositions:
        one = slice(i, i + 1)
        belief = Posterior(cut.x0_pred[one], cut.belief.logits[one])
        part = TerminalPosterior(cut.x[one], cut.z[one], belief, mask[one], cut.t)
        facet = nearest_facets(task.read, part.x, weights=task.codes)
        return tube_positions(task.read, part, task.path, facet, Noise([2000 + i]), num_draws=1)

    for a, b in zip(clean, concat_batches([row_positions(i) for i in range(4)]), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_single_precision_gives_the_same_positions() -> None:
    task = atoms(16, 4, 0.5)
    terminal = posterior_at(task, 0.8, 4, 100)
    single = Codes(task.codes.float(), task.tau, task.path)
    terminal32 = TerminalPosterior(
        terminal.x.float(), terminal.z.float(), Posterior(terminal.x0_pred.float(), None), terminal.mask, terminal.t
    )
    a, b = positions_of(task, terminal), positions_of(single, terminal32)
    assert b.token_error.isnan().all() and b.bayes_error.isnan().all(), "without logits of p(token | z_t)"
    assert_close(b.distance, a.distance, rtol=1e-4, atol=1e-5)
    assert_close(b.normal_component.abs().mean(), a.normal_component.abs().mean(), rtol=1e-3, atol=0)
    assert float((a.flip != b.flip).double().mean()) < 0.01
