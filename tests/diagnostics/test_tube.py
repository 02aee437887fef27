"""Tube law against integrals and oracle tasks with an exact posterior."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, met, normal_cdf, pair
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


def gather(world: Codes, seen: TerminalPosterior, draws: int = 1) -> TubePositions:
    facet = nearest_facets(world.read, seen.x, seen.residual, weights=world.codes)
    return tube_positions(world.read, seen, world.path, facet, Noise(range(2000, 2000 + len(seen.x))), num_draws=draws)


def measured(world: Codes, t: float, rows: int = 20, length: int = 1000, draws: int = 1) -> TubeResult:
    seen = gather(world, met(world, t, rows, length), draws)
    return evaluate_tube_law(seen, t, channel_blur(world.path, t), rows, draws)


def spread_codes(tau: float) -> Codes:
    """64 codes of one length in 8 dimensions."""
    world = atoms(64, 8, tau, scale=2.0)
    return Codes(nn.functional.normalize(world.codes, dim=-1) * 8**0.5, tau, world.path)


def two_modes_flip(s: float) -> float:
    """P(sign(x + s xi) != sign x) for x ~ N(+-1, 1), by quadrature."""
    x = torch.linspace(0, 9, 200_001, dtype=torch.float64)
    dense = (torch.exp(-((x - 1) ** 2) / 2) + torch.exp(-((x + 1) ** 2) / 2)) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(dense * 0.5 * torch.erfc(x / s / math.sqrt(2)), x))


@pytest.mark.parametrize(("s", "within"), [(0.05, 0.01), (0.1, 0.01), (0.2, 0.01), (2.0, None)])
def test_in_one_dimension_the_law_is_exact_for_small_blurs(s: float, within: float | None) -> None:
    f = 2 * math.exp(-0.5) / math.sqrt(2 * math.pi)
    ratio = tube_law(s, f) / two_modes_flip(s)
    assert ratio == pytest.approx(1, abs=within) if within else ratio == pytest.approx(1.31, abs=0.02)


def test_the_law_holds_where_it_says_so() -> None:
    found = measured(atoms(64, 8, 1.0), 0.96, 40)
    assert found.is_valid and not found.density.is_separated
    assert found.ratio == pytest.approx(1, abs=0.08)
    assert found.predicted_any_law == pytest.approx(found.predicted, rel=0.02) and found.normal_blur == pytest.approx(
        found.posterior_blur, rel=0.02
    )
    assert found.posterior_blur == pytest.approx(found.channel_blur, rel=0.02) and found.latent_rms == pytest.approx(
        math.sqrt(2), rel=0.2
    )
    assert (found.size.num_positions, found.size.num_sequences) == (40_000, 40)


def test_the_law_is_doubted_where_the_density_changes_within_two_blurs() -> None:
    distance = -Noise([11]).uniform(40_000)[0].log()

    def at(s: float) -> TubeResult:
        flat = torch.full_like(distance, s)
        return evaluate_tube_law(TubePositions(distance, flat, flat**2, flat, flat, flat, flat, flat), 0.5, s, 10)

    assert at(0.1).density_at_2s == pytest.approx(math.exp(-0.2), rel=0.06) and at(0.1).is_valid
    assert at(0.3).density_at_2s == pytest.approx(math.exp(-0.6), rel=0.06) and not at(0.3).is_valid
    assert (
        replace(at(0.3), median_distance=9.0, density_at_2s=1.0).is_valid
        and not replace(at(0.3), median_distance=9.0).is_valid
    )
    assert not replace(at(0.1), density_at_2s=1.4).is_valid and not replace(at(0.1), median_distance=0.4).is_valid


def test_where_the_law_fails_it_says_so_and_the_surrogate_still_holds() -> None:
    found = measured(spread_codes(0.5), 0.8)
    assert not found.is_valid and found.ratio > 2
    assert abs(found.observed - found.surrogate) < 0.02
    assert found.context_gain == found.surrogate - found.observed


def test_without_overlap_the_law_predicts_nothing_but_flips_happen() -> None:
    found = measured(spread_codes(0.05), 0.6)
    assert found.density.is_separated and found.predicted < 0.01 and not found.is_valid
    assert found.observed > 0.3 and abs(found.observed - found.surrogate) < 0.02


def test_a_calibrated_posterior_doubts_as_often_as_it_errs() -> None:
    for t in (0.3, 0.5):
        found = measured(spread_codes(0.0), t)
        assert (
            found.token_error == pytest.approx(found.bayes_error, abs=4 * math.sqrt(0.25 / 20_000))
            and found.token_error > 0.1
        )


def test_the_channels_blur_flips_two_codes_as_a_normal_tail() -> None:
    world = pair(2.0, 4, scale=3.0)
    x = world.draw(20, 1000)[1]
    mask = torch.ones(20, 1000, dtype=torch.bool)
    found = surrogate_flips(world.read, x, mask, 1.5, Noise(range(20)), num_draws=4)
    assert float(found.mean()) == pytest.approx(normal_cdf(-2 / 1.5), abs=4 * math.sqrt(0.1 / 80_000))
    assert not surrogate_flips(world.read, x, mask & False, 1.5, Noise(range(20)), num_draws=1).any()


def test_the_channels_blur_is_the_paths() -> None:
    assert channel_blur(LinearPath(noise_scale=2.0), 0.8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="t = 0"):
        channel_blur(LinearPath(), 0.0)


def test_padding_changes_nothing_and_batches_add_up() -> None:
    world = atoms(16, 4, 0.5)
    seen = met(world, 0.8, 4, 30)
    mask = seen.mask.clone()
    mask[:, 20:] = False
    cut = seen._replace(mask=mask)
    dirty = cut._replace(
        x=torch.where(mask[..., None], seen.x, 99.0),
        belief=seen.belief._replace(mean=torch.where(mask[..., None], seen.x0_pred, torch.nan)),
    )
    clean, spoiled = gather(world, cut), gather(world, dirty)
    assert all(torch.equal(a, b) for a, b in zip(clean, spoiled, strict=True)) and len(clean.flip) == 80

    def rows(i: int) -> TubePositions:
        one = slice(i, i + 1)
        belief = Posterior(cut.x0_pred[one], cut.belief.logits[one])
        part = TerminalPosterior(cut.x[one], cut.z[one], belief, mask[one], cut.t)
        facet = nearest_facets(world.read, part.x, part.residual, weights=world.codes)
        return tube_positions(world.read, part, world.path, facet, Noise([2000 + i]), num_draws=1)

    for a, b in zip(clean, concat_batches([rows(i) for i in range(4)]), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_without_a_token_posterior_its_errors_are_unknown() -> None:
    world = atoms(8, 4, 0.5)
    seen = met(world, 0.8, 2, 50)
    bare = seen._replace(belief=seen.belief._replace(logits=None))
    found = evaluate_tube_law(gather(world, bare), 0.8, 0.25, 2)
    assert math.isnan(found.token_error) and math.isnan(found.bayes_error) and not math.isnan(found.observed)


def test_single_precision_tells_the_same() -> None:
    world = atoms(16, 4, 0.5)
    seen = met(world, 0.8, 4, 100)
    single = Codes(world.codes.float(), world.tau, world.path)
    half = TerminalPosterior(seen.x.float(), seen.z.float(), Posterior(seen.x0_pred.float(), None), seen.mask, seen.t)
    a, b = gather(world, seen), gather(single, half)
    assert_close(b.distance, a.distance, rtol=1e-4, atol=1e-5)
    assert_close(b.normal_component.abs().mean(), a.normal_component.abs().mean(), rtol=1e-3, atol=0)
    assert float((a.flip != b.flip).double().mean()) < 0.01
