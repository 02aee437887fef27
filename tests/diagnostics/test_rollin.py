"""Roll-in and cumulative flips with known values."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, normal_cdf, pair
from textflow.diagnostics.bootstrap import concat_batches
from textflow.diagnostics.rollin import (
    FlipCounts,
    cumulative_flips,
    interior_times,
    rollin_curves,
    rollin_flips,
    rollin_rates,
)
from textflow.noise import Noise
from textflow.samplers import Euler
from textflow.types import Latents, Logits, Posterior

GRID = [0.0, 0.2, 0.5, 0.8, 1.0]


def world_text(world: Codes, rows: int = 40, length: int = 500) -> tuple[Latents, torch.Tensor]:
    return world.draw(rows, length)[1], torch.ones(rows, length, dtype=torch.bool)


def streams(rows: int) -> Noise:
    return Noise(range(3000, 3000 + rows))


def test_two_codes_flip_as_a_normal_tail_which_is_the_floor() -> None:
    world = pair(2.0, 4, scale=3.0)
    x, mask = world_text(world)
    found = rollin_flips(world.denoise, world.read, world.path, x, mask, GRID, streams(40))
    for t, seen in zip(GRID[1:-1], found, strict=True):
        one = rollin_rates(seen, t)
        known = normal_cdf(-2 * t / (3 * (1 - t)))
        assert one.flip_rate == pytest.approx(known, abs=4 * math.sqrt(known / 20_000))
        assert one.bayes_error == pytest.approx(known, abs=4 * math.sqrt(known / 20_000))
        assert one.token_error == one.flip_rate and one.excess_flip_rate == 0, (
            "of two codes the mean is read as the posterior"
        )
        assert abs(one.z_score) < 4 and one.size.num_positions == 20_000


@pytest.mark.parametrize("t", [0.3, 0.4, 0.5])
def test_an_exact_posterior_is_calibrated_and_a_sharpened_one_is_not(t: float) -> None:
    world = atoms(64, 8, 0.0)
    x, mask = world_text(world)
    ask = lambda tokens: rollin_rates(  # noqa: E731
        rollin_flips(world.denoise, world.read, world.path, x, mask, [t], streams(40), tokens)[0], t
    )
    assert abs(ask(None).z_score) < 4
    sharp = ask(lambda z, t, belief: 2 * belief.logits)
    assert sharp.z_score > 10 and sharp.token_error == ask(None).token_error


def test_the_z_score_of_a_calibrated_posterior_has_unit_spread() -> None:
    u = Noise([3]).uniform(60, 30, 40)[0]  # 60 samples of 30 sequences of 40 positions that err with chance .3
    n = torch.full((30,), 40.0, dtype=torch.float64)
    samples = [FlipCounts(n, n, (row < 0.3).double().sum(1), 0.3 * n) for row in u]
    scores = torch.tensor([rollin_rates(seen, 0.5).z_score for seen in samples])
    assert float(scores.std()) == pytest.approx(1, abs=0.35) and abs(float(scores.mean())) < 0.6  # errors .09, .13


def test_reading_the_mean_costs_more_than_reading_the_posterior_and_less_so_later() -> None:
    world = atoms(64, 8, 0.0)
    x, mask = world_text(world)
    found = rollin_flips(world.denoise, world.read, world.path, x, mask, GRID, streams(40))
    excess = [rollin_rates(seen, t).excess_flip_rate for t, seen in zip(GRID[1:-1], found, strict=True)]
    assert excess[0] > 0.02 and 0 <= excess[-1] < excess[0]


def test_without_a_posterior_the_floor_is_unknown() -> None:
    world = pair(2.0, 4, scale=3.0)
    x, mask = world_text(world, 3, 20)
    bare = lambda z, t, self_cond=None, *_: Posterior(world.denoise(z, t).mean)  # noqa: E731
    one = rollin_rates(rollin_flips(bare, world.read, world.path, x, mask, [0.5], streams(3))[0], 0.5)
    assert math.isnan(one.bayes_error) and math.isnan(one.z_score) and 0 < one.flip_rate < 1


def test_cumulative_flips_stay_near_the_floor_of_the_first_time() -> None:
    """Without context and with an exact flow, what the noise at the first time destroyed is all that is lost."""
    world = pair(2.0, 4, scale=3.0)
    x, mask = world_text(world)
    found = cumulative_flips(world.denoise, Euler(), world.read, world.path, x, mask, GRID, streams(40))
    assert len(found) == 4
    first, *_, final = [rollin_rates(seen, t) for seen, t in zip(found, [*GRID[1:-1], 1.0], strict=True)]
    assert first.flip_rate == pytest.approx(normal_cdf(-2 * 0.2 / (3 * 0.8)), abs=0.02)
    assert final.flip_rate == pytest.approx(first.flip_rate, abs=1e-12), "the sign of z does not change along the flow"


def test_the_roll_in_of_the_first_time_is_the_samplers_first_belief() -> None:
    world = atoms(16, 4, 0.0)
    x, mask = world_text(world, 4, 50)
    alone = rollin_flips(world.denoise, world.read, world.path, x, mask, GRID, streams(4))
    along = cumulative_flips(world.denoise, Euler(), world.read, world.path, x, mask, GRID, streams(4))
    assert all(torch.equal(a, b) for a, b in zip(alone[0], along[0], strict=True))
    assert not torch.equal(alone[2].flips, along[2].flips)


def test_several_depths_are_one_dictionary() -> None:
    world = atoms(16, 4, 0.0)
    x, mask = world_text(world, 4, 50)
    found = {}
    for steps in (2, 4, 8):
        grid = [i / steps for i in range(steps + 1)]
        rolls = rollin_flips(world.denoise, world.read, world.path, x, mask, grid, streams(4))
        own = cumulative_flips(world.denoise, Euler(), world.read, world.path, x, mask, grid, streams(4))
        found[steps] = rollin_curves(rolls, own, grid)
    assert (
        [len(found[steps].rollin) for steps in found] == [len(found[steps].cumulative) for steps in found] == [1, 3, 7]
    )
    assert [found[steps].rollin[-1].t for steps in found] == [0.5, 0.75, 0.875]
    terminal = [found[steps].rollin[-1].flip_rate for steps in found]
    assert terminal == sorted(terminal, reverse=True) and found[8].final.t == 1.0


def test_one_step_has_no_interior_time() -> None:
    world = pair(2.0, 4, scale=3.0)
    x, mask = world_text(world, 2, 5)
    assert interior_times([0.0, 1.0]) == []
    assert rollin_flips(world.denoise, world.read, world.path, x, mask, [0.0, 1.0], streams(2)) == []
    with pytest.raises(ValueError, match="use 2 steps or more"):
        cumulative_flips(world.denoise, Euler(), world.read, world.path, x, mask, [0.0, 1.0], streams(2))


def test_padding_changes_nothing_and_a_batch_is_its_sequences() -> None:
    world = atoms(16, 4, 0.0)
    x, mask = world_text(world, 4, 30)
    mask[:, 20:] = False
    dirty = torch.where(mask[..., None], x, 55.0)

    def tokens(z: Latents, t: float, belief: Posterior) -> Logits:
        assert belief.logits is not None
        return belief.logits

    def ask(x: Latents, first: int = 0) -> list[FlipCounts]:
        own = Noise(range(3000 + first, 3000 + first + len(x)))
        part = mask[first : first + len(x)]
        return rollin_flips(world.denoise, world.read, world.path, x, part, GRID, own, tokens) + cumulative_flips(
            world.denoise, Euler(), world.read, world.path, x, part, GRID, own, tokens
        )

    together = ask(x)
    for a, b in zip(together, ask(dirty), strict=True):
        assert (
            torch.equal(a.flips, b.flips)
            and torch.equal(a.token_errors, b.token_errors)
            and a.num_positions.tolist() == [20.0] * 4
        )
    apart = [ask(x[i : i + 1], i) for i in range(4)]
    for a, parts in zip(together, zip(*apart, strict=True), strict=True):
        for whole, added in zip(a, concat_batches(parts), strict=True):
            assert_close(whole, added, rtol=1e-9, atol=1e-12)
