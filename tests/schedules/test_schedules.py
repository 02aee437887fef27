"""Time schedules: grids and quantiles."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.flm_nets import decode_error_schedule
from tests.helpers.orthogonal_codes import decode_accuracy, orthogonal_codec
from tests.helpers.recordings import recorded
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import DecodeError, LogitNormal, OneHotDecodeError, RandomGrid, TimeSchedule, Uniform
from textflow.types import Batch


def known() -> DecodeError:
    schedule = DecodeError(uniform_mix=0.1, num_points=9)
    schedule.cdf.copy_(0.1 * torch.linspace(0, 1, 9) + 0.9 * torch.linspace(0, 1, 9) ** 3)
    return schedule


SCHEDULES = [Uniform(), LogitNormal(), LogitNormal(0.8, 0.8), known()]


@pytest.mark.parity
@pytest.mark.parametrize("steps", recorded("elf_optim")[1]["config"]["K"])
def test_grids_are_the_recorded_ones(steps: int) -> None:
    data, meta = recorded("elf_optim")
    normal = LogitNormal(meta["config"]["P_mean"], meta["config"]["P_std"])
    for schedule, name in ((normal, "quantile"), (Uniform(), "uniform")):
        grid = torch.tensor(schedule.grid(steps), dtype=torch.float64)
        assert_close(grid, data[f"grid.{steps}.{name}"].double(), rtol=0, atol=1e-12 if name == "quantile" else 1e-7)
    times = torch.cat([torch.zeros(1), normal.time_of(data[f"grid.{steps}.normal"]).sort().values, torch.ones(1)])
    assert_close(times, data[f"grid.{steps}.times"], rtol=0, atol=1e-6)


@pytest.mark.parity
def test_times_and_guidance_scales_are_the_recorded_ones() -> None:
    data, meta = recorded("elf_optim")
    config = meta["config"]
    times = LogitNormal(config["P_mean"], config["P_std"]).time_of(data["time.normal"])
    assert_close(times, data["time.t"], rtol=0, atol=1e-6)
    objective = ELFObjective(guidance_min=config["cfg_min"], guidance_max=config["cfg_max"])
    assert_close(objective.sample_guidance(data["cfg.uniform"]), data["cfg.w"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("noise", [None, Noise([3])], ids=["quantiles", "random"])
def test_a_grid_increases_from_noise_to_text(schedule: TimeSchedule, noise: Noise | None) -> None:
    for steps in (1, 2, 7, 50):
        grid = schedule.grid(steps, noise)
        assert len(grid) == steps + 1 and grid[0] == 0.0 and grid[-1] == 1.0
        assert all(t < u for t, u in zip(grid, grid[1:], strict=False))
    with pytest.raises(ValueError, match="at least 1"):
        schedule.grid(0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_samples_follow_the_quantiles(schedule: TimeSchedule) -> None:
    torch.manual_seed(0)
    q = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    times = schedule.sample(20_000)
    cdf = (times[None] <= schedule.icdf(q)[:, None].float()).double().mean(1)
    assert_close(cdf, q, rtol=0, atol=5 * math.sqrt(0.25 / 20_000))
    assert times.dtype == torch.float32 and times.min() >= 0 and times.max() <= 1


def test_a_random_grid_depends_on_its_seed_alone_and_follows_its_schedule() -> None:
    normal = LogitNormal(-1.5, 0.8)
    grid = RandomGrid(normal, 5).grid(8)
    assert grid == normal.grid(8, Noise([5])) == normal.grid(8, Noise([5, 6])) == RandomGrid(normal, 5).grid(8)
    assert grid != RandomGrid(normal, 6).grid(8)
    assert grid != normal.grid(8) and grid == sorted(grid) and (grid[0], grid[-1]) == (0, 1)
    q = torch.tensor([0.1, 0.9], dtype=torch.float64)
    assert torch.equal(RandomGrid(normal).icdf(q), normal.icdf(q))
    many = torch.tensor(RandomGrid(normal, 1).grid(2_000)[1:-1], dtype=torch.float64).logit()
    assert abs(float(many.mean()) + 1.5) < 0.1 and abs(float(many.std()) - 0.8) < 0.1


def test_the_measured_cdf_is_the_closed_form_for_orthogonal_codes() -> None:
    torch.manual_seed(0)
    vocab, mix, path = 16, 0.1, LinearPath(2.0)
    codec, schedule = orthogonal_codec(vocab), DecodeError(uniform_mix=mix, num_points=17)
    batch = Batch(torch.randint(vocab, (200, 50)), torch.ones(200, 50, dtype=torch.bool))
    schedule.fit(codec.decode_logits, path, codec.encode(batch.ids), batch)
    t = torch.linspace(0, 1, 17, dtype=torch.float64)
    accuracy = decode_accuracy(t, vocab, path.noise_scale)
    cdf = (1 - mix) * (accuracy - 1 / vocab) / (1 - 1 / vocab) + mix * t
    assert_close(schedule.cdf, cdf, rtol=0, atol=4 * math.sqrt(0.25 / 10_000))
    assert 0.02 < cdf[4] < 0.6 < cdf[10] < 0.999, "the comparison is trivial"


def test_the_measured_cdf_is_inverted_by_interpolation() -> None:
    schedule = known()
    q = torch.linspace(0, 1, 101, dtype=torch.float64)
    t = schedule.icdf(q)
    right = torch.searchsorted(torch.linspace(0, 1, 9, dtype=torch.float64), t).clamp(1, 8)
    back = schedule.cdf[right - 1] + (t * 8 - (right - 1)) * (schedule.cdf[right] - schedule.cdf[right - 1])
    assert_close(back, q, rtol=0, atol=1e-12)
    assert (t.diff() > 0).all() and t[0] == 0 and t[-1] == 1


def test_only_text_counts_in_the_measurement() -> None:
    codec, ids = orthogonal_codec(8), torch.randint(8, (40, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(10)[None].expand(40, 10) < 5
    cdfs = []
    for padded_ids in (ids, torch.where(mask, ids, (ids + 1) % 8)):
        torch.manual_seed(0)
        schedule = DecodeError(num_points=5)
        schedule.fit(codec.decode_logits, LinearPath(), codec.encode(ids), Batch(padded_ids, mask))
        cdfs.append(schedule.cdf)
    assert torch.equal(*cdfs)


def test_an_untrained_codec_and_an_unfitted_schedule_are_refused() -> None:
    schedule, ids = DecodeError(num_points=5), torch.zeros(2, 4, dtype=torch.long)
    batch = Batch(ids, ids == 0)
    with pytest.raises(ValueError, match="train the codec first"):
        schedule.fit(lambda z: torch.eye(3)[1].expand(*z.shape[:2], 3), LinearPath(), torch.zeros(2, 4, 3), batch)
    assert not schedule.fitted
    with pytest.raises(ValueError, match="not measured yet"):
        schedule.sample(3)


def test_a_weight_of_uniform_time_outside_0_and_1_is_refused() -> None:
    for mix in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match="uniform_mix"):
            DecodeError(uniform_mix=mix)


def test_the_assumed_schedule_is_uniform_and_a_measured_one_is_saved() -> None:
    schedule = DecodeError(num_points=9)
    schedule.assume_uniform()
    assert schedule.fitted and schedule.grid(4) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    other = DecodeError(num_points=9)
    other.load_state_dict(known().state_dict())
    assert other.grid(5) == known().grid(5)


@pytest.mark.parity
def test_the_closed_form_for_one_hot_latents_is_the_published_one() -> None:
    data, meta = recorded("flm")
    for size in meta["config"]["clock_V"]:
        tau, t = (data[f"clock.{size}.{name}"] for name in ("tau", "t_of_tau"))
        inside = (tau > 1e-4) & (tau < 1 - 1e-4)
        times = decode_error_schedule(meta["config"], size).icdf(tau.double())
        assert_close(times[inside], t.double()[inside], rtol=0, atol=1e-6)


def test_the_grid_for_one_hot_latents_lies_where_tokens_become_readable() -> None:
    grid = OneHotDecodeError(50_257).grid(8)
    assert grid[0] == 0.0 and grid[-1] == 1.0 and grid[1] > 0.6  # one of 50,257 tokens is readable late
    assert OneHotDecodeError(2).grid(8)[1] < grid[1]


def test_the_number_of_tokens_is_that_of_the_codec_unless_it_is_given() -> None:
    own, given = OneHotDecodeError(), OneHotDecodeError(50_257)
    with pytest.raises(ValueError, match="OneHotDecodeError has no vocab_size"):
        own.grid(8)
    for schedule in (own, given):
        schedule.build(11)
    assert own.fitted and own.grid(8) == OneHotDecodeError(11).grid(8)
    assert given.grid(8) == OneHotDecodeError(50_257).grid(8)


def test_a_single_token_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="vocab_size 1"):
        OneHotDecodeError(1)
