"""Laws of time: grids and quantiles."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.recordings import recorded
from textflow.codecs import EmbeddingTable
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.schedules import DecodeError, LogitNormal, RandomGrid, TimeSchedule, Uniform
from textflow.types import Batch


def known() -> DecodeError:
    clock = DecodeError(uniform_mix=0.1, num_points=9)
    clock.cdf.copy_(0.1 * torch.linspace(0, 1, 9) + 0.9 * torch.linspace(0, 1, 9) ** 3)
    return clock


CLOCKS = [Uniform(), LogitNormal(), LogitNormal(0.8, 0.8), known()]


@pytest.mark.parity
@pytest.mark.parametrize("steps", recorded("elf_optim")[1]["config"]["K"])
def test_grids_are_the_recorded_ones(steps: int) -> None:
    data, meta = recorded("elf_optim")
    law = LogitNormal(meta["config"]["P_mean"], meta["config"]["P_std"])
    for clock, name in ((law, "quantile"), (Uniform(), "uniform")):
        grid = torch.tensor(clock.grid(steps), dtype=torch.float64)
        assert_close(grid, data[f"grid.{steps}.{name}"].double(), rtol=0, atol=1e-12 if name == "quantile" else 1e-7)
    drawn = torch.cat([torch.zeros(1), law.time_of(data[f"grid.{steps}.normal"]).sort().values, torch.ones(1)])
    assert_close(drawn, data[f"grid.{steps}.times"], rtol=0, atol=1e-6)


@pytest.mark.parity
def test_times_and_guidance_scales_are_the_recorded_ones() -> None:
    data, meta = recorded("elf_optim")
    config = meta["config"]
    assert_close(
        LogitNormal(config["P_mean"], config["P_std"]).time_of(data["time.normal"]), data["time.t"], rtol=0, atol=1e-6
    )
    w = ELFObjective(guidance_min=config["cfg_min"], guidance_max=config["cfg_max"]).sample_guidance(
        data["cfg.uniform"]
    )
    assert_close(w, data["cfg.w"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda clock: type(clock).__name__)
@pytest.mark.parametrize("noise", [None, Noise([3])], ids=["quantiles", "drawn"])
def test_a_grid_rises_from_noise_to_text(clock: TimeSchedule, noise: Noise | None) -> None:
    for steps in (1, 2, 7, 50):
        grid = clock.grid(steps, noise)
        assert len(grid) == steps + 1 and grid[0] == 0.0 and grid[-1] == 1.0
        assert all(t < u for t, u in zip(grid, grid[1:], strict=False))
    with pytest.raises(ValueError, match="at least 1"):
        clock.grid(0)


@pytest.mark.parametrize("clock", CLOCKS, ids=lambda clock: type(clock).__name__)
def test_draws_follow_the_law(clock: TimeSchedule) -> None:
    torch.manual_seed(0)
    q = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    drawn = clock.sample(20_000)
    share = (drawn[None] <= clock.icdf(q)[:, None].float()).double().mean(1)
    assert_close(share, q, rtol=0, atol=5 * math.sqrt(0.25 / 20_000))
    assert drawn.dtype == torch.float32 and drawn.min() >= 0 and drawn.max() <= 1


def test_a_drawn_grid_depends_on_its_seed_alone() -> None:
    assert LogitNormal().grid(8, Noise([5])) == LogitNormal().grid(8, Noise([5, 6]))
    assert LogitNormal().grid(8, Noise([5])) != LogitNormal().grid(8, Noise([6]))


def test_a_drawn_clock_lays_one_random_grid_of_its_law() -> None:
    law = LogitNormal(-1.5, 0.8)
    grid = RandomGrid(law, 5).grid(8)
    assert grid == law.grid(8, Noise([5])) == RandomGrid(law, 5).grid(8) != RandomGrid(law, 6).grid(8)
    assert grid != law.grid(8) and grid == sorted(grid) and (grid[0], grid[-1]) == (0, 1)
    q = torch.tensor([0.1, 0.9], dtype=torch.float64)
    assert torch.equal(RandomGrid(law).icdf(q), law.icdf(q))
    many = torch.tensor(RandomGrid(law, 1).grid(2_000)[1:-1], dtype=torch.float64).logit()
    assert abs(float(many.mean()) + 1.5) < 0.1 and abs(float(many.std()) - 0.8) < 0.1


def closed_form(t: torch.Tensor, dim: int, scale: float, vocab: int) -> torch.Tensor:
    """Share of orthogonal codes of length sqrt(dim) found at t: P(signal + n > all other n) (FLM, 2602.16813)."""
    n = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    density = torch.exp(-(n**2) / 2) / math.sqrt(2 * math.pi)
    signal = t * math.sqrt(dim) / (scale * (1 - t)).clamp_min(1e-9)  # in units of the noise
    below = torch.special.ndtr(n[None] + signal[:, None]) ** (vocab - 1)
    return torch.trapezoid(density * below, n, dim=-1)


def orthogonal(vocab: int) -> EmbeddingTable:
    codec = EmbeddingTable(vocab, vocab)
    with torch.no_grad():
        codec.table.copy_(torch.eye(vocab))
    return codec


def test_the_measured_clock_is_the_closed_form_for_orthogonal_codes() -> None:
    torch.manual_seed(0)
    vocab, even, path = 16, 0.1, LinearPath(2.0)
    codec, clock = orthogonal(vocab), DecodeError(uniform_mix=even, num_points=17)
    batch = Batch(torch.randint(vocab, (200, 50)), torch.ones(200, 50, dtype=torch.bool))
    clock.fit(codec.decode_logits, path, codec.encode(batch.ids), batch)
    t = torch.linspace(0, 1, 17, dtype=torch.float64)
    found = closed_form(t, vocab, path.noise_scale, vocab)
    law = (1 - even) * (found - 1 / vocab) / (1 - 1 / vocab) + even * t
    assert_close(clock.cdf, law, rtol=0, atol=4 * math.sqrt(0.25 / 10_000))
    assert 0.02 < law[4] < 0.6 < law[10] < 0.999, "the comparison is trivial"


def test_the_measured_clock_can_be_inverted() -> None:
    clock = known()
    q = torch.linspace(0, 1, 101, dtype=torch.float64)
    t = clock.icdf(q)
    right = torch.searchsorted(torch.linspace(0, 1, 9, dtype=torch.float64), t).clamp(1, 8)
    back = clock.cdf[right - 1] + (t * 8 - (right - 1)) * (clock.cdf[right] - clock.cdf[right - 1])
    assert_close(back, q, rtol=0, atol=1e-12)
    assert (t.diff() > 0).all() and t[0] == 0 and t[-1] == 1


def test_only_text_counts_in_the_measurement() -> None:
    codec, ids = orthogonal(8), torch.randint(8, (40, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(10)[None].expand(40, 10) < 5
    laws = []
    for filled in (ids, torch.where(mask, ids, (ids + 1) % 8)):
        torch.manual_seed(0)
        clock = DecodeError(num_points=5)
        clock.fit(codec.decode_logits, LinearPath(), codec.encode(ids), Batch(filled, mask))
        laws.append(clock.cdf)
    assert torch.equal(*laws)


def test_a_readout_that_has_learned_nothing_is_refused() -> None:
    clock, batch = (
        DecodeError(num_points=5),
        Batch(torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool)),
    )
    with pytest.raises(ValueError, match="train the codec first"):
        clock.fit(lambda z: torch.eye(3)[1].expand(*z.shape[:2], 3), LinearPath(), torch.zeros(2, 4, 3), batch)
    assert not clock.fitted
    with pytest.raises(ValueError, match="not measured yet"):
        clock.sample(3)


def test_a_clock_needs_some_uniform_time() -> None:
    for even in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match="uniform_mix"):
            DecodeError(uniform_mix=even)


def test_the_assumed_law_is_uniform_and_a_measured_one_is_saved() -> None:
    clock = DecodeError(num_points=9)
    clock.assume_uniform()
    assert clock.fitted and clock.grid(4) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    other = DecodeError(num_points=9)
    other.load_state_dict(known().state_dict())
    assert other.grid(5) == known().grid(5)
