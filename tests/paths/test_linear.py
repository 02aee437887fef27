"""The straight path."""

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.recordings import error, recorded
from textflow.paths import LinearPath

PATH = LinearPath(noise_scale=2.0)


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parity
def test_velocities_are_the_published_ones() -> None:
    data, meta = recorded("elf_optim")
    smallest = meta["config"].get("t_eps", 0.05)  # the published default
    assert (data["vx.t"] > 1 - smallest).any(), "no time beyond it is recorded"
    velocity = LinearPath(min_one_minus_t=smallest).velocity(data["vx.z"], data["vx.x"], data["vx.t"])
    assert error(velocity, data["vx.v"]) < 1e-6


@pytest.mark.parametrize("t", [0.0, 0.3, 0.7, 0.97, 0.9999])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_the_step_to_the_end_returns_the_belief_to_the_bit(t: float, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    z, x = torch.randn(3, 5, 4).to(kind) * 3, torch.randn(3, 5, 4).to(kind)
    if t <= 0.95:
        assert torch.equal(PATH.step(z, x, t, 1.0), x)
    elif kind != torch.bfloat16:  # within the floor the velocity is bounded, as published
        assert_close(PATH.step(z, x, t, 1.0), torch.lerp(z, x, (1 - t) / 0.05))


def test_the_true_text_carries_z_along_its_own_path() -> None:
    torch.manual_seed(0)
    x, eps = double(2, 3, 4), double(2, 3, 4)
    t, u = torch.tensor([0.1, 0.5], dtype=torch.float64), torch.tensor([0.4, 0.9], dtype=torch.float64)
    assert_close(PATH.step(PATH.mix(x, eps, t), x, t, u), PATH.mix(x, eps, u), rtol=1e-12, atol=1e-12)


def test_a_step_is_the_velocity_times_its_length() -> None:
    torch.manual_seed(0)
    z, x = double(2, 3, 4), double(2, 3, 4)
    for t, u in ((0.0, 0.5), (0.2, 0.3), (0.96, 0.98)):
        assert_close(PATH.step(z, x, t, u), z + (u - t) * PATH.velocity(z, x, t), rtol=1e-12, atol=1e-12)


def test_the_velocity_is_the_derivative_of_the_path() -> None:
    torch.manual_seed(0)
    x, eps, t, h = double(2, 3, 4), double(2, 3, 4), 0.6, 1e-6
    slope = (PATH.mix(x, eps, t + h) - PATH.mix(x, eps, t - h)) / (2 * h)
    assert_close(PATH.velocity(PATH.mix(x, eps, t), x, t), slope, rtol=1e-8, atol=1e-8)


def test_the_ends_are_noise_and_text() -> None:
    torch.manual_seed(0)
    x, eps = double(2, 3, 4), double(2, 3, 4)
    assert torch.equal(PATH.mix(x, eps, 0.0), 2 * eps) and torch.equal(PATH.mix(x, eps, 1.0), x)


@pytest.mark.parametrize(("t", "s"), [(0.5, 0.2), (0.9, 0.85), (1.0, 0.3), (0.4, 0.4), (0.3, 0.0), (0.0, 0.0)])
def test_rewinding_keeps_the_marginal(t: float, s: float) -> None:
    """z_t = t x + sigma_t e, rewound with fresh f, is linear in x, e and f: its coefficients must be those of z_s."""
    x, e, f = (torch.eye(3, dtype=torch.float64)[i].reshape(1, 1, 3) for i in range(3))  # one axis each
    z_s = PATH.rewind(PATH.mix(x, e, t), f, t, s).flatten()
    assert_close(z_s[0], torch.tensor(s, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(z_s[1:].square().sum().sqrt(), torch.tensor(2 * (1 - s), dtype=torch.float64), rtol=0, atol=1e-12)


def test_times_a_row_are_those_of_each_row_alone() -> None:
    torch.manual_seed(0)
    z, x, t, u = double(2, 3, 4), double(2, 3, 4), torch.tensor([0.2, 0.6]), torch.tensor([0.5, 1.0])
    both = PATH.step(z, x, t, u)
    for i in range(2):
        assert_close(both[i], PATH.step(z[i : i + 1], x[i : i + 1], float(t[i]), float(u[i]))[0], rtol=1e-7, atol=1e-7)
