"""The ranking: equal numbers of calls, frozen grids, and what wins where the truth is known."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from textflow.eval.oracle.benchmark import Bench, Cell, plan, ranking
from textflow.eval.oracle.methods import CALLS, FLIPS, METHODS, NAMED, ROBUST, SEARCHED, SPOILT, Times, fresh, staggered
from textflow.eval.oracle.verdict import PARTS, best, means, verdict
from textflow.noise import sample_seeds
from textflow.oracle import Imperfect
from textflow.oracle.base import Timed
from textflow.oracle.worlds import chain
from textflow.samplers import Euler
from textflow.types import Given, Latents, Posterior

NAMES = ("ODE, read(x_hat)", "ODE, argmax gamma", "Reinject released .5", "mode commit", "relook: mode")


class Shared(list[Tensor]):
    """A list that the copies of its owner share."""

    def __deepcopy__(self, memo: Any) -> "Shared":
        return self


class Counting(Timed):
    """A denoiser that remembers the times it was asked at."""

    def __init__(self, inner: Timed) -> None:
        super().__init__()
        self.inner, self.dim = inner, inner.dim
        self.asked = Shared()

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], given: Given = Given()) -> Posterior:
        self.asked.append(t[0])
        return self.inner.posterior(z, t, given)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(chain(fresh(0)), 192, 0)


def cell(method: str, calls: int = 4, grid: str = "flip", spoilt: str = "") -> Cell:
    return Cell("chain", fresh(0), spoilt, grid, method, calls)


@pytest.mark.parametrize("calls", [2, 4])
@pytest.mark.parametrize("name", list(NAMED))
def test_every_method_costs_as_many_calls_as_it_says(bench: Bench, name: str, calls: int) -> None:
    counting = Counting(bench.world.denoiser)
    method, world = NAMED[name], replace(bench.world, denoiser=counting)
    times = bench.times(cell(name, calls, method.grids[0]), method)
    ids = method.write(world, times, [1, 2])
    assert ids.shape == (2, world.length)
    assert len(counting.asked) == (0 if name.startswith("joint") else calls)


def test_a_text_depends_on_its_seed_and_not_on_its_batch(bench: Bench) -> None:
    for name, method in NAMED.items():
        times = bench.times(cell(name, 4, method.grids[0]), method)
        both, alone = method.write(bench.world, times, [1, 2]), method.write(bench.world, times, [2])
        assert torch.equal(both[1:], alone), name


def test_even_positions_run_ahead_when_staggered(bench: Bench) -> None:
    counting = Counting(bench.world.denoiser)
    staggered(replace(bench.world, denoiser=counting), [0.0, 0.4, 0.5, 1.0], [1])
    first, second, third = counting.asked
    assert (first == 0).all() and (second[::2] > 0.4).all() and (second[1::2] < 0.4).all()
    assert (third > second).all()
    middle = torch.sigmoid((torch.logit(second[0]) + torch.logit(second[1])) / 2)
    assert float(middle) == pytest.approx(0.4, abs=1e-6)


def test_the_flip_grid_has_the_frozen_rates(bench: Bench) -> None:
    clock, method = bench.clock(""), NAMED["mode commit"]
    rates = torch.linspace(*FLIPS["commit"], 3, dtype=torch.float64)
    assert bench.times(cell("mode commit"), method) == [0.0, *clock.when(rates).tolist(), 1.0]
    assert bench.times(cell("mode commit", 2), method) == [0.0, *clock.when(rates[2:]).tolist(), 1.0]
    ahead = NAMED["head start + mode commit"]
    assert len(bench.times(cell(ahead.name), ahead)) == len(bench.times(cell("mode commit"), method)) + 1


def test_given_times_are_the_grid_and_another_number_of_steps_is_a_bug() -> None:
    grid = Times([0.0, 0.3, 1.0])
    assert grid.grid(2) == [0.0, 0.3, 1.0]
    with pytest.raises(AssertionError, match="3 steps of 3 times"):
        grid.grid(3)


def test_the_plan_has_each_method_on_its_grids_and_calls() -> None:
    cells = plan(["chain"], [1, 2], CALLS)
    assert len(set(cells)) == len(cells)
    assert {c.calls for c in cells if c.method == "masked, dilated"} == {2, 4, 8, 16}
    assert {c.grid for c in cells if c.method == "mode commit" and not c.spoilt} == {"tuned", "flip", "elf"}
    assert {(c.spoilt, c.method) for c in cells if c.spoilt} == {(how, name) for how in SPOILT for name in ROBUST}
    exact = [c for c in cells if not c.spoilt]
    assert len(exact) == 2 * sum(len(m.grids) * len(m.calls) for m in METHODS)
    with pytest.raises(ValueError, match=r"not for \[5\]"):
        plan(["chain"], [1], [4, 5])


def test_nothing_is_ranked_on_the_worlds_that_were_searched() -> None:
    assert all(SEARCHED not in range(fresh(seed), fresh(seed) + 100) for seed in range(10_000))


def test_a_spoilt_world_is_asked_in_place_of_the_exact_one(bench: Bench) -> None:
    world = bench.spoilt("underfit .3")
    assert isinstance(world.denoiser, Imperfect) and world.prior is bench.world.prior
    assert float((bench.clock("underfit .3").rate - bench.clock("").rate).max()) > 0.02  # it flips more


def test_the_joint_readout_is_the_truth(bench: Bench) -> None:
    found = bench.record(cell("joint readout (zero line)", grid="none"), 20)
    for part in PARTS:
        truth = 0.0 if part != "illegal" else 0.01 * 28 / 32  # smoothing puts it there
        assert abs(found[part] - truth) < 4 * found["spread"][part] + 0.005, part


def row(method: str, xkl3: float, **other: Any) -> dict[str, Any]:
    base = {"spoilt": "", "grid": "flip", "calls": 4, "collapsed": False, "dh1": 0.0, "worlds": 1}
    return base | {"method": method, "xkl3": xkl3} | other


def test_the_verdict_compares_best_grids_and_wants_the_entropy() -> None:
    rows = [row("ODE, read(x_hat)", 0.09), row("ODE, read(x_hat)", 0.5, grid="elf"), row("ODE, argmax gamma", 0.08)]
    rows += [row("Reinject released .5", 0.05, dh1=-0.1), row("Reinject exact .5", 0.2), row("mode commit", 0.02)]
    found = verdict(rows)
    ratios = {"ode": 4.5, "argmax": 4.0, "reinject": 2.5, "true": 10.0}
    assert found["held"] and found["ratio"] == pytest.approx(ratios)
    assert not verdict([*rows[:-1], row("mode commit", 0.02, dh1=-0.06)])["held"]
    assert not verdict([*rows[:-1], row("mode commit", 0.031)])["held"]
    assert not verdict([*rows, row("Reinject released 1.5", 0.03)])["held"]
    assert verdict([*rows[:-1], row("mode commit", -0.002)])["ratio"]["ode"] == pytest.approx(90)


def test_a_collapsed_sample_is_not_ranked() -> None:
    rows = [row("mode commit", -1.0, collapsed=True), row("mode commit", 0.3)]
    assert best(rows, ["mode commit"])["xkl3"] == 0.3
    with pytest.raises(ValueError, match="nothing was measured"):
        best(rows[:1], ["mode commit"])


def test_means_are_over_worlds_with_the_interval_of_the_mean() -> None:
    spread = dict.fromkeys(PARTS, 0.03)
    records = [
        cell("mode commit")._asdict() | dict.fromkeys(PARTS, x) | {"n": 8, "collapsed": False, "spread": spread}
        for x in (0.1, 0.3)
    ]
    (found,) = means(records)
    assert found["worlds"] == 2 and found["xkl3"] == pytest.approx(0.2)
    assert found["xkl3_side"] == pytest.approx(1.96 * 0.03 / 2**0.5)
    assert "xkl3_side" not in means([records[0] | {"spread": {}}, records[1] | {"spread": {}, "world": "text"}])[0]
    several = [
        records[0] | {"spread": {}, "world": kind, "xkl3": x} for kind, x in zip("aabb", (1, 3, 7, 7), strict=True)
    ]
    (found,) = means(several)
    assert found["xkl3_side"] == pytest.approx(1.96 * 0.5)  # kind a: 2 +- 1, kind b: 7 +- 0; their mean: +- 1 / 2


def test_commitment_beats_the_ode_and_a_second_look_beats_both() -> None:
    cells = [c for c in plan(["chain"], [fresh(1)], [4], False) if c.method in NAMES and c.grid == "flip"]
    found = {r["method"]: r for r in means(list(ranking(cells, 512, 0, 0)))}
    ode, mode, again = (found[name]["xkl3"] for name in NAMES[1::2] + NAMES[4:])
    assert ode > 2 * mode > 4 * again  # measured: .08-.1, .02-.03, .00 +- .01
    assert all(abs(found[name]["dh1"]) < 0.06 for name in NAMES if name.startswith(("ODE", "mode", "relook")))


@pytest.mark.slow
def test_at_four_calls_commitment_wins_by_what_is_required() -> None:
    names = ("ODE, read(x_hat)", "ODE, argmax gamma", "mode commit", "mode commit, fair", "relook: mode, fair")
    cells = plan(["chain", "text", "topic"], [fresh(0)], [4], False)
    rows = means(list(ranking([c for c in cells if c.method in names or c.method.startswith("Reinject")], 1024, 0, 0)))
    assert verdict(rows, ["relook: mode, fair"])["held"]
    assert verdict(rows, ["mode commit"])["ratio"]["ode"] >= 3
    assert verdict(rows, ["mode commit, fair"])["ratio"]["ode"] >= 3 and abs(best(rows, names[3:4])["dh1"]) < 0.02


@pytest.mark.integration
def test_processes_change_no_number() -> None:
    cells = [c for c in plan(["chain"], [fresh(0)], [2], False) if c.method in NAMES and c.grid == "tuned"]
    assert list(ranking(cells, 16, 0, 2, jobs=2)) == list(ranking(cells, 16, 0, 2))


def test_walked_methods_run_the_generators_own_loop(bench: Bench) -> None:
    times = [0.0, 0.4, 0.5, 1.0]
    world = bench.world.generator(grid=Times(times))
    mine = NAMED["ODE, read(x_hat)"].write(bench.world, times, sample_seeds(0, 0, 3))
    assert torch.equal(mine, world.sample(sample_seeds(0, 0, 3), 3, Euler()).ids)
