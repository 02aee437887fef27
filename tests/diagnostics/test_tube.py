"""The tube law against integrals and worlds whose posterior is exact."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, met, normal_cdf, pair
from textflow.diagnostics.bootstrap import joined
from textflow.diagnostics.facets import facets
from textflow.diagnostics.residual import Terminal, channel_blur
from textflow.diagnostics.tube import Positions, Tube, law, positions, surrogate, tube
from textflow.noise import Noise
from textflow.paths import Linear
from textflow.types import Posterior


def gather(world: Codes, seen: Terminal, draws: int = 1) -> Positions:
    facet = facets(world.read, seen.x, seen.residual, weights=world.codes)
    return positions(world.read, seen, world.path, facet, Noise(range(2000, 2000 + len(seen.x))), draws=draws)


def measured(world: Codes, t: float, rows: int = 20, length: int = 1000, draws: int = 1) -> Tube:
    seen = gather(world, met(world, t, rows, length), draws)
    return tube(seen, t, channel_blur(world.path, t), rows, draws)


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
    ratio = law(s, f) / two_modes_flip(s)
    assert ratio == pytest.approx(1, abs=within) if within else ratio == pytest.approx(1.31, abs=0.02)


def test_the_law_holds_where_it_says_so() -> None:
    found = measured(atoms(64, 8, 1.0), 0.96, 40)
    assert found.valid and not found.density.separated
    assert found.ratio == pytest.approx(1, abs=0.08)
    assert found.free == pytest.approx(found.linear, rel=0.02) and found.s_n == pytest.approx(found.s_post, rel=0.02)
    assert found.s_post == pytest.approx(found.s_ch, rel=0.02) and found.scale == pytest.approx(math.sqrt(2), rel=0.2)
    assert (found.size.positions, found.size.sequences) == (40_000, 40)


def test_the_law_is_doubted_where_the_density_changes_within_two_blurs() -> None:
    distance = -Noise([11]).uniform(40_000)[0].log()

    def at(s: float) -> Tube:
        flat = torch.full_like(distance, s)
        return tube(Positions(distance, flat, flat**2, flat, flat, flat, flat, flat), 0.5, s, 10)

    assert at(0.1).density_far == pytest.approx(math.exp(-0.2), rel=0.06) and at(0.1).valid
    assert at(0.3).density_far == pytest.approx(math.exp(-0.6), rel=0.06) and not at(0.3).valid
    assert replace(at(0.3), median=9.0, density_far=1.0).valid and not replace(at(0.3), median=9.0).valid
    assert not replace(at(0.1), density_far=1.4).valid and not replace(at(0.1), median=0.4).valid


def test_where_the_law_fails_it_says_so_and_the_surrogate_still_holds() -> None:
    found = measured(spread_codes(0.5), 0.8)
    assert not found.valid and found.ratio > 2
    assert abs(found.observed - found.surrogate) < 0.02
    assert found.context_gain == found.surrogate - found.observed


def test_without_overlap_the_law_predicts_nothing_but_flips_happen() -> None:
    found = measured(spread_codes(0.05), 0.6)
    assert found.density.separated and found.linear < 0.01 and not found.valid
    assert found.observed > 0.3 and abs(found.observed - found.surrogate) < 0.02


def test_a_calibrated_posterior_doubts_as_often_as_it_errs() -> None:
    for t in (0.3, 0.5):
        found = measured(spread_codes(0.0), t)
        assert found.wrong == pytest.approx(found.doubt, abs=4 * math.sqrt(0.25 / 20_000)) and found.wrong > 0.1


def test_the_channels_blur_flips_two_codes_as_a_normal_tail() -> None:
    world = pair(2.0, 4, scale=3.0)
    x = world.draw(20, 1000)[1]
    mask = torch.ones(20, 1000, dtype=torch.bool)
    found = surrogate(world.read, x, mask, 1.5, Noise(range(20)), draws=4)
    assert float(found.mean()) == pytest.approx(normal_cdf(-2 / 1.5), abs=4 * math.sqrt(0.1 / 80_000))
    assert not surrogate(world.read, x, mask & False, 1.5, Noise(range(20)), draws=1).any()


def test_the_channels_blur_is_the_paths() -> None:
    assert channel_blur(Linear(scale=2.0), 0.8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="t = 0"):
        channel_blur(Linear(), 0.0)


def test_padding_changes_nothing_and_batches_add_up() -> None:
    world = atoms(16, 4, 0.5)
    seen = met(world, 0.8, 4, 30)
    mask = seen.mask.clone()
    mask[:, 20:] = False
    cut = seen._replace(mask=mask)
    dirty = cut._replace(
        x=torch.where(mask[..., None], seen.x, 99.0),
        belief=seen.belief._replace(mean=torch.where(mask[..., None], seen.guess, torch.nan)),
    )
    clean, spoiled = gather(world, cut), gather(world, dirty)
    assert all(torch.equal(a, b) for a, b in zip(clean, spoiled, strict=True)) and len(clean.flip) == 80

    def rows(i: int) -> Positions:
        one = slice(i, i + 1)
        belief = Posterior(cut.guess[one], cut.belief.logits[one])
        part = Terminal(cut.x[one], cut.z[one], belief, mask[one], cut.t)
        facet = facets(world.read, part.x, part.residual, weights=world.codes)
        return positions(world.read, part, world.path, facet, Noise([2000 + i]), draws=1)

    for a, b in zip(clean, joined([rows(i) for i in range(4)]), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_without_a_token_posterior_its_errors_are_unknown() -> None:
    world = atoms(8, 4, 0.5)
    seen = met(world, 0.8, 2, 50)
    bare = seen._replace(belief=seen.belief._replace(logits=None))
    found = tube(gather(world, bare), 0.8, 0.25, 2)
    assert math.isnan(found.wrong) and math.isnan(found.doubt) and not math.isnan(found.observed)


def test_single_precision_tells_the_same() -> None:
    world = atoms(16, 4, 0.5)
    seen = met(world, 0.8, 4, 100)
    single = Codes(world.codes.float(), world.tau, world.path)
    half = Terminal(seen.x.float(), seen.z.float(), Posterior(seen.guess.float(), None), seen.mask, seen.t)
    a, b = gather(world, seen), gather(single, half)
    assert_close(b.distance, a.distance, rtol=1e-4, atol=1e-5)
    assert_close(b.lean.abs().mean(), a.lean.abs().mean(), rtol=1e-3, atol=0)
    assert float((a.flip != b.flip).double().mean()) < 0.01
