"""The flip-rate schedule on orthogonal codes, for which the flip rate of the exact posterior has a closed form."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.orthogonal_codes import decode_accuracy
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.schedules import FlipRate
from textflow.types import Batch, Latents, Posterior

VOCAB, PATH = 16, LinearPath(noise_scale=1.0)
CODES = torch.eye(VOCAB) * VOCAB**0.5


def read(z: Latents) -> torch.Tensor:
    return z @ CODES.T


def exact(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """E[x | z_t] of equally likely tokens; it decodes to the code nearest to z_t."""
    return Posterior((t * read(z) / PATH.sigma(torch.tensor(t)) ** 2).softmax(-1) @ CODES)


def closed_form(t: torch.Tensor) -> torch.Tensor:
    """Fraction of tokens whose code is not the nearest to z_t."""
    return 1 - decode_accuracy(t, VOCAB, PATH.noise_scale)


def text(rows: int = 200, length: int = 50) -> tuple[Latents, Batch]:
    ids = torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(0))
    return CODES[ids], Batch(ids, torch.ones(rows, length, dtype=torch.bool))


@pytest.fixture(scope="module")
def schedule() -> FlipRate:
    torch.manual_seed(0)
    schedule, (x, batch) = FlipRate(), text()
    schedule.fit(read, PATH, x, batch, exact)
    return schedule


def test_the_measured_rate_is_the_closed_form_and_decreases(schedule: FlipRate) -> None:
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    assert_close(schedule.flip_rate, closed_form(t), rtol=0, atol=4 * math.sqrt(0.25 / 10_000))
    assert (schedule.flip_rate.diff() < 0).all() and schedule.flip_rate[-1] == 0 and schedule.flip_rate[0] > 0.9


@pytest.mark.parametrize(
    ("steps", "flips"),
    [(2, [0.02]), (3, [0.5, 0.05]), (4, [0.4, 0.215, 0.03]), (6, [0.4, 0.3075, 0.215, 0.1225, 0.03])],
)
def test_interior_times_lie_at_evenly_spaced_flip_rates(schedule: FlipRate, steps: int, flips: list[float]) -> None:
    grid = torch.tensor(schedule.grid(steps), dtype=torch.float64)
    assert grid[0] == 0 and grid[-1] == 1 and len(grid) == steps + 1 and (grid.diff() > 0).all()
    rates = torch.tensor(flips, dtype=torch.float64)
    assert_close(closed_form(grid[1:-1]), rates, rtol=0, atol=0.02)  # 33 points on a curve, 10,000 tokens a point
    assert_close(schedule.icdf(1 - rates / schedule.flip_rate[0]), grid[1:-1], rtol=0, atol=1e-12)


def test_quantiles_are_the_fraction_of_flips_that_no_longer_occur(schedule: FlipRate) -> None:
    q = torch.linspace(0, 1, 101, dtype=torch.float64)
    t = schedule.icdf(q)
    assert t[0] == 0 and t[-1] == 1 and (t.diff() > 0).all()
    assert_close(closed_form(t[1:-1]) / closed_form(t[:1]), 1 - q[1:-1], rtol=0, atol=0.03)
    torch.manual_seed(0)
    times = schedule.sample(20_000).double()
    assert abs(float((times <= t[50]).double().mean()) - 0.5) < 5 * math.sqrt(0.25 / 20_000)


def test_a_random_grid_lies_between_the_two_rates_and_depends_on_its_seed_alone(schedule: FlipRate) -> None:
    grid = schedule.grid(9, Noise([5]))
    assert grid == schedule.grid(9, Noise([5, 6])) != schedule.grid(9, Noise([6])) and grid == sorted(grid)
    rates = torch.tensor([schedule.max_flip_rate, schedule.min_flip_rate], dtype=torch.float64)
    high, low = schedule.times_at(rates).tolist()
    assert high <= grid[1] and grid[-2] <= low and len(set(grid)) == 10


def test_only_text_counts_in_the_measurement() -> None:
    x, batch = text(20, 10)
    mask = torch.arange(10)[None].expand(20, 10) < 5
    rates = []
    for decode in (read, lambda z: torch.where(mask[..., None], read(z), read(z).roll(1, 0))):
        torch.manual_seed(0)
        schedule = FlipRate(num_points=5)
        schedule.fit(decode, PATH, x, Batch(batch.ids, mask), exact)
        rates.append(schedule.flip_rate)
    assert torch.equal(*rates)


def test_a_measured_rate_that_increases_is_made_to_decrease() -> None:
    torch.manual_seed(0)
    schedule, (x, batch) = FlipRate(num_points=9), text(20, 10)
    schedule.fit(read, PATH, x, batch, lambda z, t, *_: exact(z, t) if t < 0.5 else Posterior(-z))
    assert (schedule.flip_rate.diff() < 0).all() and len(set(schedule.grid(8))) == 9
    assert_close(schedule.flip_rate[4], schedule.flip_rate[3], rtol=1e-5, atol=0)


def test_the_schedule_is_not_saved_with_the_weights(schedule: FlipRate) -> None:
    assert schedule.fitted and not schedule.state_dict()


def test_the_assumed_schedule_is_uniform() -> None:
    schedule = FlipRate()
    schedule.assume_uniform()
    assert schedule.fitted and schedule.grid(4) == pytest.approx([0, 0.6, 0.785, 0.97, 1])


def test_errors_name_a_missing_denoiser_and_wrong_arguments(schedule: FlipRate) -> None:
    assert schedule.grid(1) == [0.0, 1.0]
    with pytest.raises(ValueError, match="at least 1"):
        schedule.grid(0)
    x, batch = text(2, 4)
    with pytest.raises(ValueError, match="trained denoiser and got none"):
        FlipRate().fit(read, PATH, x, batch)
    for call in (lambda: FlipRate().grid(4), lambda: FlipRate().grid(1), lambda: FlipRate().sample(3)):
        with pytest.raises(ValueError, match="not measured yet"):
            call()
    with pytest.raises(ValueError, match="flip in pure noise"):
        FlipRate().fit(read, PATH, x, batch, lambda z, t, self_cond=None, *_: Posterior(x))
    for wrong in ({"max_flip_rate": 0.02}, {"min_flip_rate": 0.0}, {"max_flip_rate": 1.0}, {"num_points": 1}):
        with pytest.raises(ValueError, match="0 < min_flip_rate < max_flip_rate < 1"):
            FlipRate(**wrong)
