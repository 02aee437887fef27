"""DABI against closed forms: two codes without context, and smooth decoders."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, met, normal_cdf, pair, streams
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.dabi import (
    Response,
    adversarial_x0_pred,
    continuous_dabi,
    dabi,
    measure_response,
    summarise_response,
    sweep_dabi,
)
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.residual import TerminalPosterior
from textflow.noise import Noise


def beyond(cosine: Tensor, d: int) -> Tensor:
    """P(u_1 > cosine) for u uniform on the sphere of R^d: the angle's density is sin^(d-2)."""
    angles = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(angles.sin() ** (d - 2), angles)
    angle = torch.acos(cosine.clamp(-1, 1))
    share = (cdf / cdf[-1])[(angle / math.pi * 4000).long().clamp(1, 4000) - 1]
    return torch.where(cosine >= 1, 0, share)


@pytest.mark.parametrize("f", [0.8, 1.0, 1.5])
def test_flips_along_the_residual_are_the_closed_form(f: float) -> None:
    a, s = 2.0, 3.0
    world = pair(a, 4, scale=s)
    seen = met(world, 0.5, 400, 400)
    found = dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(400), f, num_draws=1)
    known = normal_cdf((s**2 / a * math.atanh(1 - 1 / f) - a) / s)
    assert found.flip.numerator == pytest.approx(known, rel=0.02)  # error of 1.6e5 coins: .4 %


def test_half_the_residual_flips_nothing() -> None:
    world = pair(2.0, 4, scale=3.0)
    seen = met(world, 0.5, 20, 200)
    assert dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(20), 0.5, num_draws=1).flip.numerator == 0


def test_flips_in_random_directions_are_the_closed_form() -> None:
    a, d = 2.0, 16
    world = pair(a, d, scale=3.0)
    seen = met(world, 0.5, 200, 1000)
    found = dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(200), num_draws=4)
    known = float(beyond(a / seen.residual.norm(dim=-1).clamp_min(1e-9), d).mean())
    assert known == pytest.approx(4.5e-4, rel=0.05)
    assert found.flip.denominator == pytest.approx(known, rel=0.15)  # 360 events: 5 % error
    assert found.flip.value == pytest.approx(0.2525 / known, rel=0.15)
    assert found.flip.low < found.flip.value < found.flip.high
    assert (found.size.num_positions, found.size.num_sequences, found.size.num_draws) == (200_000, 200, 4)
    assert found.size.dtype == "float64"


def test_beyond_nj_there_is_only_a_bound() -> None:
    world = pair(2.0, 128, scale=3.0)  # the true ratio is 6e6
    seen = met(world, 0.5, 64, 32)
    flip = dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(64), num_draws=2).flip
    assert flip.denominator == 0 and flip.few_events and not flip.has_value
    assert 0 < flip.low < flip.numerator * 64 * 32 * 2 / 3.6


@pytest.mark.parametrize("temperature", [0.25, 16.0])
def test_a_temperature_moves_no_flip_but_the_loss(temperature: float) -> None:
    world = pair(2.0, 16, scale=3.0)
    seen = met(world, 0.5, 50, 200)

    def at(T: float) -> Response:
        return measure_response(lambda z: world.read(z) / T, seen.x, seen.x0_pred, seen.mask, streams(50), num_draws=4)

    plain, heated = at(1.0), at(temperature)
    assert torch.equal(plain.flips, heated.flips) and torch.equal(plain.random_flips, heated.random_flips)
    assert plain.random_flips.sum() > 10
    moved = summarise_response(heated, 1.0, 4).loss.value / summarise_response(plain, 1.0, 4).loss.value
    assert not 0.67 < moved < 1.5


def test_a_sweep_shares_its_directions_and_grows() -> None:
    world = pair(2.0, 8, scale=3.0)
    seen = met(world, 0.5, 30, 100)
    found = sweep_dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(30), num_draws=2)
    assert [one.residual_scale for one in found] == [0.25, 0.5, 0.8, 1.0, 1.5, 2.0]
    for rates in ([one.flip.numerator for one in found], [one.flip.denominator for one in found]):
        assert rates == sorted(rates) and rates[0] < rates[-1]


def test_smooth_decoders_know_no_special_direction() -> None:
    x, guess = Noise(range(128)).normal(16, 12).double(), Noise(range(200, 328)).normal(16, 12).double()
    mask = torch.ones(128, 16, dtype=torch.bool)
    W = torch.linalg.qr(Noise([1]).normal(24, 12)[0].double())[0]
    found = continuous_dabi(lambda z: torch.tanh(0.1 * z @ W.T), x, x + 0.3 * guess, mask, streams(128))
    assert 0.95 <= found.value <= 1.05  # 2048 residuals, isotropic


def test_the_squared_errors_ratio_lies_between_the_eigenvalues() -> None:
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # J^T J: 9 1 1 1, mean 3
    x = torch.zeros(64, 32, 4, dtype=torch.float64)
    mask = torch.ones(64, 32, dtype=torch.bool)
    for axis, known in ((0, 3.0), (1, 1 / 3)):
        guess = torch.zeros_like(x)
        guess[..., axis] = 0.7
        assert continuous_dabi(lambda z: z * scale, x, guess, mask, streams(64)).value == pytest.approx(known, rel=0.03)


def test_energy_that_the_decoder_does_not_see_lowers_the_full_ratio_alone() -> None:
    world = pair(2.0, 16, scale=3.0)
    seen = met(world, 0.5, 40, 200)
    noisy = seen.x0_pred.clone()
    noisy[..., 8:] += 2 * Noise(range(40)).normal(200, 8).double()
    basis = torch.eye(16, dtype=torch.float64)[:1]
    full, row = (
        [
            dabi(world.read, seen.x, guess, seen.mask, streams(40), 1.0, 4, control, rows).flip.denominator
            for guess in (seen.x0_pred, noisy)
        ]
        for control, rows in (("full", None), ("row", basis))
    )
    assert full[1] > 4 * full[0] > 0
    assert row[1] == row[0] > 0


def test_along_the_nearest_boundary_a_step_flips_when_it_reaches_it() -> None:
    world = pair(2.0, 16, scale=3.0)
    seen = met(world, 0.5, 20, 100)
    facet = nearest_facets(world.read, seen.x, seen.residual)
    worst, reach = adversarial_x0_pred(seen.x, seen.x0_pred, seen.mask, facet)
    length = seen.residual.norm(dim=-1)
    assert_close((worst - seen.x).norm(dim=-1), length)
    found = dabi(world.read, seen.x, worst, seen.mask, streams(20), num_draws=1)
    assert found.flip.numerator == pytest.approx(float((length > 2.0).double().mean()))
    assert reach == pytest.approx(float((2.0 / length).median()), rel=1e-9)


def spoiled(seen: TerminalPosterior) -> dict[str, Any]:
    """The same text, with the last third of each row as padding that holds rubbish."""
    mask = seen.mask.clone()
    mask[:, -10:] = False
    x, guess = seen.x.clone(), seen.x0_pred.clone()
    x[~mask], guess[~mask] = 1e6, torch.nan
    return {"x": x, "x0_pred": guess, "mask": mask}


@pytest.mark.parametrize("control", ["full", "row", "shuffled"])
def test_padding_changes_nothing(control: Any) -> None:
    world = atoms(8, 4, 0.3, scale=3.0)
    seen = met(world, 0.5, 5, 30)
    dirty, basis = spoiled(seen), torch.eye(4, dtype=torch.float64)[:2]
    clean = measure_response(world.read, seen.x, seen.x0_pred, dirty["mask"], streams(5), 1.0, 2, control, basis)
    found = measure_response(world.read, noise=streams(5), num_draws=2, control=control, row_basis=basis, **dirty)
    assert all(torch.equal(a, b) for a, b in zip(clean, found, strict=True))
    assert clean.num_positions.tolist() == [20.0] * 5 and clean.flips.sum() > 0


@pytest.mark.parametrize("control", ["full", "shuffled"])
def test_a_batch_is_its_sequences_one_by_one(control: Any) -> None:
    world = atoms(8, 4, 0.3, scale=3.0)
    seen = met(world, 0.5, 5, 30)
    ask: Callable[..., Response] = lambda rows: measure_response(  # noqa: E731
        world.read, seen.x[rows], seen.x0_pred[rows], seen.mask[rows], Noise(range(5000, 5005)[rows]), 1.0, 2, control
    )
    together, apart = ask(slice(0, 5)), concat_batches([ask(slice(i, i + 1)) for i in range(5)])
    for a, b in zip(together, apart, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_batches_add_up_to_one_result() -> None:
    world = pair(2.0, 8, scale=3.0)
    seen = met(world, 0.5, 6, 100)
    parts = [
        measure_response(
            world.read, seen.x[i : i + 2], seen.x0_pred[i : i + 2], seen.mask[i : i + 2], Noise([5000 + i, 5001 + i])
        )
        for i in (0, 2, 4)
    ]
    whole = dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(6))
    assert summarise_response(concat_batches(parts), 1.0, 8).flip.value == pytest.approx(whole.flip.value, rel=1e-12)
    assert summarise_response(concat_batches(parts), 1.0, 8).loss.low == pytest.approx(whole.loss.low, rel=1e-9)


def test_single_precision_tells_the_same() -> None:
    world = pair(2.0, 8, scale=3.0)
    seen = met(world, 0.5, 10, 100)
    single = Codes(world.codes.float(), path=world.path)
    double = dabi(world.read, seen.x, seen.x0_pred, seen.mask, streams(10))
    found = dabi(single.read, seen.x.float(), seen.x0_pred.float(), seen.mask, streams(10))
    assert found.loss.value == pytest.approx(double.loss.value, rel=1e-4) and found.size.dtype == "float32"
    assert found.flip.numerator == double.flip.numerator


def test_a_perfect_guess_costs_nothing_however_unsure_the_decoder() -> None:
    world = atoms(16, 4, 1.0, scale=3.0)
    x, mask = world.draw(3, 40)[1], torch.ones(3, 40, dtype=torch.bool)
    found = dabi(lambda z: world.read(z) / 9, x, x.clone(), mask, streams(3))
    assert found.loss.numerator == found.loss.denominator == found.flip.numerator == 0 and found.loss.below_floor
