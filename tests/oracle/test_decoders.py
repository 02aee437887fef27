"""Discrete readers: exact where they must be, and worthless once their choices are not fed back."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from textflow.noise import Noise
from textflow.oracle import WORLDS, Imperfect, World, Yardstick, autoregressive, masked
from textflow.oracle.decoders import halving, unit_time

N = 128


@pytest.fixture(scope="module")
def world() -> World:
    return WORLDS["chain"](0)


def noise(n: int = N) -> Noise:
    return Noise(range(n))


def nll(world: World, ids: torch.Tensor) -> float:
    return float(world.prior.nll(ids).mean())


@pytest.mark.parametrize("name", list(WORLDS))
def test_token_by_token_is_the_truth(name: str) -> None:
    world = WORLDS[name](0)
    own = world.prior.nll(autoregressive(world, noise()).ids).mean(1)
    true = world.prior.nll(world.draw(Noise(range(5000, 5000 + 1024)))).mean(1)
    error = (own.var() / len(own) + true.var() / len(true)) ** 0.5
    assert abs(float(own.mean() - true.mean())) < 4 * float(error)


def test_what_is_fed_stands_and_is_what_is_written(world: World) -> None:
    reading = masked(world, 8, noise())
    assert len(reading.fed) == 8 and bool((reading.fed[0] == -1).all()) and bool((reading.ids >= 0).all())
    for call, fed in enumerate(reading.fed):
        assert torch.equal((fed >= 0).sum(1), torch.full((N,), 4 * call))
        assert torch.equal(fed[fed >= 0], reading.ids[fed >= 0])
        assert call == 0 or bool((fed >= 0)[reading.fed[call - 1] >= 0].all())
    left = autoregressive(world, noise(2)).fed
    assert len(left) == 32 and torch.equal(left[5] >= 0, torch.arange(32).expand(2, -1) < 5)


def test_batches_trade_calls_for_truth_and_dilation_helps(world: World) -> None:
    random = [nll(world, masked(world, calls, noise()).ids) for calls in (1, 2, 4, 8, 32)]
    assert random == sorted(random, reverse=True) and random[0] > random[-1] + 5
    for calls, of_random in zip((2, 4, 8), random[1:4], strict=True):
        assert nll(world, masked(world, calls, noise(), "dilated").ids) < of_random - 0.3
    yard = Yardstick(world.prior, world.truths(N))
    assert yard.score(masked(world, 8, noise(), "dilated").ids).xkl2 < 0.03


def test_dilated_batches_halve_the_gaps(world: World) -> None:
    assert halving(8) == [0, 4, 2, 6, 1, 3, 5, 7] and halving(1) == [0]
    third = masked(world, 4, noise(1), "dilated").fed[2]
    assert torch.equal(third[0] >= 0, torch.arange(32) % 2 == 0)


@pytest.mark.parametrize("name", ["chain", "text"])
def test_without_feedback_of_choices_the_text_falls_apart(name: str) -> None:
    """The commit ablation: the same draws, expectations fed instead."""
    world = WORLDS[name](0)
    for reader in (partial(masked, world, 8), partial(autoregressive, world)):
        hard, soft = reader(noise()), reader(noise(), soft=True)
        assert nll(world, soft.ids) > nll(world, hard.ids) + 3
        assert all(bool((fed == -1).all()) for fed in soft.fed) and len(soft.fed) == len(hard.fed)
        first = hard.fed[1] >= 0  # drawn at the first call, before anything was fed
        assert torch.equal(soft.ids[first], hard.ids[first])


def test_a_soft_embedding_is_read_as_the_codec_reads_it() -> None:
    for make in WORLDS.values():
        world = make(0)
        e = world.codec.codes.double()[:4].mean(0).expand(1, 32, -1)
        t = torch.full((1, 32), unit_time(world), dtype=torch.float64)
        loglik = world.denoiser.evidence(t[..., None] * e, t)
        assert torch.allclose(loglik, world.codec.readout(e), rtol=0, atol=1e-12)


def test_an_imperfect_reader_is_worse(world: World) -> None:
    spoilt = replace(world, denoiser=Imperfect(world.exact, lam=0.3))
    assert nll(world, autoregressive(spoilt, noise()).ids) > nll(world, autoregressive(world, noise()).ids) + 1


@pytest.mark.parametrize("soft", [False, True])
def test_a_text_does_not_depend_on_its_company(world: World, soft: bool) -> None:
    together = masked(world, 4, Noise([8, 3, 8]), soft=soft).ids
    assert torch.equal(together[1:2], masked(world, 4, Noise([3]), soft=soft).ids)
    assert torch.equal(together[0], together[2]) and not torch.equal(together[0], together[1])


def test_impossible_calls_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        masked(world, 33, noise(1))
    with pytest.raises(ValueError, match="power of 2"):
        masked(world, 6, noise(1), "dilated")
