"""DABI against closed forms: two codes without context, and smooth decoders."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, fresh_noise, normal_cdf, pair, posterior_at, text_and_mask
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.dabi import (
    RESIDUAL_SCALES,
    Response,
    adversarial_x0_pred,
    continuous_dabi,
    dabi,
    measure_response,
    summarise_response,
)
from textflow.diagnostics.facets import nearest_facets
from textflow.diagnostics.perturbation import Control
from textflow.noise import Noise

TASK = atoms(8, 4, 0.3, scale=3.0)
TERMINAL = posterior_at(TASK, 0.5, 5, 30)


def sphere_tail(cosine: Tensor, d: int) -> Tensor:
    """P(u_1 > cosine) for u uniform on the sphere of R^d: the angle's density is sin^(d-2)."""
    angles = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    cdf = torch.cumulative_trapezoid(angles.sin() ** (d - 2), angles)
    angle = torch.acos(cosine.clamp(-1, 1))
    share = (cdf / cdf[-1])[(angle / math.pi * 4000).long().clamp(1, 4000) - 1]
    return torch.where(cosine >= 1, 0, share)


@pytest.mark.integration
def test_flips_along_the_residual_match_the_closed_form() -> None:
    a, s = 2.0, 3.0
    task = pair(a, 4, scale=s)
    terminal = posterior_at(task, 0.5, 200, 400)
    for f in (0.5, 0.8, 1.0, 1.5):
        result = dabi(task.read, terminal.x, terminal.x0_pred, terminal.mask, fresh_noise(200), f, num_draws=1)
        known = normal_cdf((s**2 / a * math.atanh(1 - 1 / f) - a) / s) if f > 0.5 else 0
        assert result.flip.numerator == pytest.approx(known, rel=0.02)  # error of 8e4 coins: .6 %


@pytest.mark.integration
def test_flips_in_random_directions_match_the_closed_form() -> None:
    a, d = 2.0, 16
    task = pair(a, d, scale=3.0)
    terminal = posterior_at(task, 0.5, 100, 1000)
    result = dabi(task.read, terminal.x, terminal.x0_pred, terminal.mask, fresh_noise(100), num_draws=4)
    known = float(sphere_tail(a / terminal.residual.norm(dim=-1).clamp_min(1e-9), d).mean())
    assert known == pytest.approx(4.5e-4, rel=0.05)
    assert result.flip.denominator == pytest.approx(known, rel=0.15)  # 180 events: 7 % error
    assert result.flip.value == pytest.approx(0.2525 / known, rel=0.15)
    assert result.flip.low < result.flip.value < result.flip.high
    assert (result.size.num_positions, result.size.num_sequences, result.size.num_draws) == (100_000, 100, 4)
    assert result.size.dtype == "float64"


def test_a_ratio_beyond_the_number_of_trials_is_only_bounded() -> None:
    task = pair(2.0, 128, scale=3.0)  # the true ratio is 6e6
    terminal = posterior_at(task, 0.5, 64, 32)
    flip = dabi(task.read, terminal.x, terminal.x0_pred, terminal.mask, fresh_noise(64), num_draws=2).flip
    assert flip.denominator == 0 and flip.few_events and not flip.has_value
    assert 0 < flip.low < flip.numerator * 64 * 32 * 2 / 3.6


def test_temperature_changes_the_loss_but_no_flip() -> None:
    task = pair(2.0, 16, scale=3.0)
    terminal = posterior_at(task, 0.5, 50, 200)

    def at_temperature(T: float) -> Response:
        inputs = (terminal.x, terminal.x0_pred, terminal.mask, fresh_noise(50))
        return measure_response(lambda z: task.read(z) / T, *inputs, num_draws=4)

    base = at_temperature(1.0)
    assert base.random_flips.sum() > 10
    for temperature in (0.25, 16.0):
        scaled = at_temperature(temperature)
        assert torch.equal(base.flips, scaled.flips) and torch.equal(base.random_flips, scaled.random_flips)
        change = summarise_response(scaled, 1.0, 4).loss.value / summarise_response(base, 1.0, 4).loss.value
        assert not 0.67 < change < 1.5


def test_flips_grow_with_the_residual_scale_in_the_same_directions() -> None:
    task = pair(2.0, 8, scale=3.0)
    terminal = posterior_at(task, 0.5, 30, 100)
    inputs = (task.read, terminal.x, terminal.x0_pred, terminal.mask)
    flips = [dabi(*inputs, fresh_noise(30), scale, num_draws=2).flip for scale in RESIDUAL_SCALES]
    for rates in ([flip.numerator for flip in flips], [flip.denominator for flip in flips]):
        assert rates == sorted(rates) and rates[0] < rates[-1]


def test_smooth_decoders_have_no_special_direction_but_their_eigenvectors() -> None:
    x, error = Noise(range(128)).normal(16, 12).double(), Noise(range(200, 328)).normal(16, 12).double()
    mask = torch.ones(128, 16, dtype=torch.bool)
    W = torch.linalg.qr(Noise([1]).normal(24, 12)[0].double())[0]
    result = continuous_dabi(lambda z: torch.tanh(0.1 * z @ W.T), x, x + 0.3 * error, mask, fresh_noise(128))
    assert 0.95 <= result.value <= 1.05  # 2048 residuals, isotropic
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0], dtype=torch.float64)  # J^T J: 9 1 1 1, mean 3
    x, mask = torch.zeros(64, 32, 4, dtype=torch.float64), torch.ones(64, 32, dtype=torch.bool)
    for axis, known in ((0, 3.0), (1, 1 / 3)):
        x0_pred = torch.zeros_like(x)
        x0_pred[..., axis] = 0.7
        result = continuous_dabi(lambda z: z * scale, x, x0_pred, mask, fresh_noise(64))
        assert result.value == pytest.approx(known, rel=0.03)


def test_energy_outside_the_row_space_changes_the_full_control_alone() -> None:
    task = pair(2.0, 16, scale=3.0)
    terminal = posterior_at(task, 0.5, 40, 200)
    noisy = terminal.x0_pred.clone()
    noisy[..., 8:] += 2 * Noise(range(40)).normal(200, 8).double()
    basis = torch.eye(16, dtype=torch.float64)[:1]

    def isotropic_flips(x0_pred: Tensor, control: Control) -> float:
        return dabi(
            task.read, terminal.x, x0_pred, terminal.mask, fresh_noise(40), 1.0, 4, control, basis
        ).flip.denominator

    assert isotropic_flips(noisy, "full") > 4 * isotropic_flips(terminal.x0_pred, "full") > 0
    assert isotropic_flips(noisy, "row") == isotropic_flips(terminal.x0_pred, "row") > 0


def test_an_adversarial_residual_flips_if_it_reaches_the_boundary() -> None:
    task = pair(2.0, 16, scale=3.0)
    terminal = posterior_at(task, 0.5, 20, 100)
    facet = nearest_facets(task.read, terminal.x)
    worst, ratio = adversarial_x0_pred(terminal.x, terminal.x0_pred, terminal.mask, facet)
    length = terminal.residual.norm(dim=-1)
    assert_close((worst - terminal.x).norm(dim=-1), length)
    result = dabi(task.read, terminal.x, worst, terminal.mask, fresh_noise(20), num_draws=1)
    assert result.flip.numerator == pytest.approx(float((length > 2.0).double().mean()))
    assert ratio == pytest.approx(float((2.0 / length).median()), rel=1e-9)


@pytest.mark.parametrize("control", ["full", "row", "shuffled"])
def test_padding_changes_nothing(control: Control) -> None:
    """The last third of each row is padding with invalid latents."""
    mask, basis = TERMINAL.mask.clone(), torch.eye(4, dtype=torch.float64)[:2]
    mask[:, -10:] = False
    x, x0_pred = (torch.where(mask[..., None], z, bad) for z, bad in ((TERMINAL.x, 1e6), (TERMINAL.x0_pred, torch.nan)))
    settings = (mask, fresh_noise(5), 1.0, 2, control, basis)
    clean = measure_response(TASK.read, TERMINAL.x, TERMINAL.x0_pred, *settings)
    dirty = measure_response(TASK.read, x, x0_pred, mask, fresh_noise(5), *settings[2:])
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
    assert clean.num_positions.tolist() == [20.0] * 5 and clean.flips.sum() > 0


@pytest.mark.parametrize("control", ["full", "shuffled"])
def test_sums_of_a_batch_equal_those_of_its_sequences(control: Control) -> None:
    def response(rows: slice) -> Response:
        x, x0_pred, mask = (part[rows] for part in (TERMINAL.x, TERMINAL.x0_pred, TERMINAL.mask))
        return measure_response(TASK.read, x, x0_pred, mask, Noise(range(5000, 5005)[rows]), 1.0, 2, control)

    separate = concat_batches([response(slice(i, i + 1)) for i in range(5)])
    for a, b in zip(response(slice(0, 5)), separate, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_single_precision_gives_the_same_result_and_a_perfect_prediction_has_no_loss() -> None:
    task = pair(2.0, 8, scale=3.0)
    terminal = posterior_at(task, 0.5, 10, 100)
    x, x0_pred, mask = terminal.x, terminal.x0_pred, terminal.mask
    double = dabi(task.read, x, x0_pred, mask, fresh_noise(10))
    single = dabi(Codes(task.codes.float(), path=task.path).read, x.float(), x0_pred.float(), mask, fresh_noise(10))
    assert single.loss.value == pytest.approx(double.loss.value, rel=1e-4) and single.size.dtype == "float32"
    assert single.flip.numerator == double.flip.numerator
    task = atoms(16, 4, 1.0, scale=3.0)
    x, mask = text_and_mask(task, 3, 40)
    result = dabi(lambda z: task.read(z) / 9, x, x.clone(), mask, fresh_noise(3))
    assert result.loss.numerator == result.loss.denominator == result.flip.numerator == 0 and result.loss.below_floor
