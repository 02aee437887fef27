"""Slopes of known readouts."""

import math

import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from textflow.codecs import LatentSpace
from textflow.diagnostics.sensitivity import directional_slope, sensitivity
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.types import Latents, Logits

CODES = Noise([11]).normal(6, 4)[0].double()


def linear(x: Latents) -> Logits:
    return x @ CODES.T + torch.linspace(-1, 1, 6).double()


def text(rows: int = 3, length: int = 5) -> Latents:
    return Noise(range(rows)).normal(length, 4).double()


def test_slopes_of_a_linear_readout_follow_from_its_weights() -> None:
    x, direction = text(), text() @ Noise([4]).normal(4, 4)[0].double()
    result = directional_slope(linear, x, direction, (0.0,))
    speed = normalize(direction, dim=-1) @ CODES.T
    own = speed.gather(-1, linear(x).argmax(-1, keepdim=True))
    assert_close(result, (own - speed).abs().amax(-1), rtol=1e-9, atol=0)
    assert_close(directional_slope(linear, x, 7 * direction, (0.0, 0.3, 2.0)), result, rtol=1e-9, atol=0)


def test_no_token_flips_within_rho_along_any_direction() -> None:
    x, residual = text(40), text(40).flip(0)
    result = sensitivity(linear, x, residual, Noise(range(100, 140)), num_draws=1, batch_size=7)
    iso = Noise(range(100, 140)).normal(1, 5, 4)[:, 0].double()
    top = linear(x).topk(2).indices
    gradient = CODES[top[..., 0]] - CODES[top[..., 1]]
    before, flips = linear(x).argmax(-1), 0
    for name, direction in (("isotropic", iso), ("residual", residual), ("gradient", gradient)):
        u = normalize(direction, dim=-1) * result.rho(name)[..., None]
        assert all(torch.equal(linear(x + s * u).argmax(-1), before) for s in (0.999, -0.999)), name
        flips += int((linear(x - 3 * u).argmax(-1) != before).sum())
    assert flips > 100, "beyond rho tokens flip"


def test_rho_along_the_gradient_of_two_tokens_is_the_distance_to_the_boundary() -> None:
    w = CODES[:2]
    result = sensitivity(lambda x: x @ w.T, text(), text(), Noise(range(3)))
    exact = (text() @ (w[0] - w[1])).abs() / (w[0] - w[1]).norm()
    assert_close(result.rho("gradient"), exact, rtol=1e-9, atol=0)
    assert (result.rho("isotropic") > exact).all() and (result.rho("residual") > exact).all()
    assert_close(result.margin, (text() @ (w[0] - w[1])).abs(), rtol=1e-9, atol=0)


def test_slopes_match_finite_differences_at_the_steepest_offset() -> None:
    """Of a nonlinear readout that mixes positions."""

    def read(x: Latents) -> Logits:
        return (x.tanh() + 0.3 * x.roll(1, 1).square()) @ CODES.T

    x, direction = text(), normalize(text().flip(0), dim=-1)
    y, h, result = read(x).argmax(-1, keepdim=True), 1e-6, []
    for at in (0.0, 0.5):
        speed = (read(x + (at + h) * direction) - read(x + (at - h) * direction)) / (2 * h)
        result.append((speed.gather(-1, y) - speed).abs().amax(-1))
        assert_close(directional_slope(read, x, direction, (at,)), result[-1], rtol=1e-6, atol=1e-8)
    assert_close(directional_slope(read, x, direction, (0.0, 0.5)), torch.maximum(*result), rtol=1e-6, atol=1e-8)
    assert (result[0] > result[1]).any() and (result[1] > result[0]).any()


def test_a_direction_of_length_0_has_slope_0_and_rows_do_not_depend_on_the_batch_size() -> None:
    result = sensitivity(linear, text(), torch.zeros(3, 5, 4).double(), Noise(range(3)))
    assert not result.slopes["residual"].any() and result.rho("residual").isinf().all()
    assert math.isinf(result.summary()["rho/residual"]) and result.summary()["slope/gradient"] > 0
    together, chunks = (sensitivity(linear, text(), text().flip(0), Noise(range(3)), batch_size=n) for n in (8, 2))
    for name, value in together.slopes.items():
        assert_close(value, chunks.slopes[name], rtol=1e-9, atol=0)


def test_padding_is_held_fixed() -> None:
    """The first position depends on the last, which is padding."""

    def with_neighbour(x: Latents) -> Logits:
        return linear(x + 10 * x.roll(1, 1))

    mask = (torch.arange(5) < 4).expand(3, 5)
    free, held = (
        sensitivity(with_neighbour, text(), text(), Noise(range(3)), m).slopes["residual"] for m in (None, mask)
    )
    speed = normalize(text(), dim=-1)[:, 0] @ CODES.T
    own = speed.gather(-1, with_neighbour(text()).argmax(-1)[:, :1])
    assert_close(held[:, 0], (own - speed).abs().amax(-1), rtol=1e-9, atol=0)
    assert (free[:, 0] > 2 * held[:, 0]).any() and torch.equal(free[:, 1:4], held[:, 1:4])


def test_the_readout_of_elf_can_be_measured_in_inference_mode() -> None:
    torch.manual_seed(0)
    net = ELF(LatentSpace(4, 9), width=8, depth=1, heads=2, bottleneck=4)
    read = lambda x: net.decode_logits(x, x.new_ones(len(x)))  # noqa: E731
    with torch.inference_mode():
        result = sensitivity(read, text().float(), text().float().flip(0), Noise(range(3)), num_draws=2)
    assert all((value > 0).all() and not value.requires_grad for value in result.slopes.values())
    assert (result.slopes["gradient"] > result.slopes["residual"]).double().mean() > 0.5
