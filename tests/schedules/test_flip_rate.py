"""The flip clock, on orthogonal codes: there the flip rate of the exact posterior is known in closed form."""

import math

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.schedules import FlipRate
from textflow.types import Batch, Latents, Posterior

VOCAB, PATH = 16, LinearPath(noise_scale=1.0)
CODES = torch.eye(VOCAB) * VOCAB**0.5


def read(z: Latents) -> torch.Tensor:
    return z @ CODES.T


def exact(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t], each token alike often: read, it says the code nearest to z_t."""
    return Posterior((t * read(z) / PATH.sigma(torch.tensor(t)) ** 2).softmax(-1) @ CODES)


def closed_form(t: torch.Tensor) -> torch.Tensor:
    """Share of tokens whose code is not the nearest: 1 - P(signal + n > all other n) (FLM, 2602.16813)."""
    n = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    density = torch.exp(-(n**2) / 2) / math.sqrt(2 * math.pi)
    signal = t * math.sqrt(VOCAB) / (PATH.noise_scale * (1 - t)).clamp_min(1e-9)
    return 1 - torch.trapezoid(density * torch.special.ndtr(n[None] + signal[:, None]) ** (VOCAB - 1), n, dim=-1)


def text(rows: int = 200, length: int = 50) -> tuple[Latents, Batch]:
    ids = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    return CODES[ids], Batch(ids, torch.ones(rows, length, dtype=torch.bool))


@pytest.fixture(scope="module")
def clock() -> FlipRate:
    torch.manual_seed(0)
    made, (x, batch) = FlipRate(), text()
    made.fit(read, PATH, x, batch, exact)
    return made


def test_the_measured_rate_is_the_closed_form_and_falls(clock: FlipRate) -> None:
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert_close(clock.flip_rate, closed_form(t), rtol=0, atol=4 * math.sqrt(0.25 / 10_000))
    assert (clock.flip_rate.diff() < 0).all() and clock.flip_rate[-1] == 0 and clock.flip_rate[0] > 0.9


@pytest.mark.parametrize(
    ("steps", "flips"),
    [(2, [0.02]), (3, [0.5, 0.05]), (4, [0.4, 0.215, 0.03]), (6, [0.4, 0.3075, 0.215, 0.1225, 0.03])],
)
def test_interior_times_lie_at_even_flip_rates(clock: FlipRate, steps: int, flips: list[float]) -> None:
    grid = torch.tensor(clock.grid(steps), dtype=torch.float64)
    assert grid[0] == 0 and grid[-1] == 1 and len(grid) == steps + 1 and (grid.diff() > 0).all()
    found = closed_form(grid[1:-1])  # 33 points on a curve, 10,000 tokens a point
    assert_close(found, torch.tensor(flips, dtype=torch.float64), rtol=0, atol=0.02)
    law = clock.icdf(1 - torch.tensor(flips, dtype=torch.float64) / clock.flip_rate[0])
    assert_close(law, grid[1:-1], rtol=0, atol=1e-12)


def test_as_a_law_it_is_the_share_of_flips_that_are_over(clock: FlipRate) -> None:
    q = torch.linspace(0, 1, 101, dtype=torch.float64)
    t = clock.icdf(q)
    assert t[0] == 0 and t[-1] == 1 and (t.diff() > 0).all()
    assert_close(closed_form(t[1:-1]) / closed_form(t[:1]), 1 - q[1:-1], rtol=0, atol=0.03)
    torch.manual_seed(0)
    drawn = clock.sample(20_000).double()
    assert abs(float((drawn <= t[50]).double().mean()) - 0.5) < 5 * math.sqrt(0.25 / 20_000)


def test_a_drawn_grid_lies_between_the_two_rates_and_depends_on_its_seed_alone(clock: FlipRate) -> None:
    grid = clock.grid(9, Noise([5]))
    assert grid == clock.grid(9, Noise([5, 6])) != clock.grid(9, Noise([6])) and grid == sorted(grid)
    high, low = clock.times_at(torch.tensor([clock.max_flip_rate, clock.min_flip_rate], dtype=torch.float64)).tolist()
    assert high <= grid[1] and grid[-2] <= low and len(set(grid)) == 10


def test_one_step_and_none_are_as_on_any_clock(clock: FlipRate) -> None:
    assert clock.grid(1) == [0.0, 1.0]
    with pytest.raises(ValueError, match="at least 1"):
        clock.grid(0)


def test_only_text_counts_in_the_measurement() -> None:
    x, batch = text(20, 10)
    mask = torch.arange(10)[None].expand(20, 10) < 5
    worse = lambda z: torch.where(mask[..., None], read(z), read(z).roll(1, 0))  # noqa: E731
    rates = []
    for reading in (read, worse):
        torch.manual_seed(0)
        clock = FlipRate(num_points=5)
        clock.fit(reading, PATH, x, Batch(batch.ids, mask), exact)
        rates.append(clock.flip_rate)
    assert torch.equal(*rates)


def test_a_rate_that_rises_by_chance_is_made_to_fall() -> None:
    rises = lambda z, t, self_cond=None, *_: Posterior(exact(z, t if t < 0.5 else 0.1).mean if t < 0.5 else -z)  # noqa: E731
    torch.manual_seed(0)
    clock, (x, batch) = FlipRate(num_points=9), text(20, 10)
    clock.fit(read, PATH, x, batch, rises)
    assert (clock.flip_rate.diff() < 0).all() and len(set(clock.grid(8))) == 9
    assert_close(clock.flip_rate[4], clock.flip_rate[3], rtol=1e-5, atol=0)


def test_the_law_is_not_among_the_weights_which_it_follows(clock: FlipRate) -> None:
    assert clock.fitted and not clock.state_dict()


def test_the_assumed_law_has_even_times() -> None:
    clock = FlipRate()
    clock.assume_uniform()
    assert clock.fitted and clock.grid(4) == pytest.approx([0, 0.6, 0.785, 0.97, 1])


def test_what_is_missing_is_said() -> None:
    x, batch = text(2, 4)
    with pytest.raises(ValueError, match="trained denoiser and got none"):
        FlipRate().fit(read, PATH, x, batch)
    for ask in (lambda: FlipRate().grid(4), lambda: FlipRate().grid(1), lambda: FlipRate().sample(3)):
        with pytest.raises(ValueError, match="not measured yet"):
            ask()
    with pytest.raises(ValueError, match="flip in pure noise"):
        FlipRate().fit(read, PATH, x, batch, lambda z, t, self_cond=None, *_: Posterior(x))
    for wrong in ({"max_flip_rate": 0.02}, {"min_flip_rate": 0.0}, {"max_flip_rate": 1.0}, {"num_points": 1}):
        with pytest.raises(ValueError, match="0 < min_flip_rate < max_flip_rate < 1"):
            FlipRate(**wrong)
