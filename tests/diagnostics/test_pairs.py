"""Diagnostics of a run of pairs: the source is given, the target is looked at."""

import math
from typing import Any

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.diagnostics import CCI, DABI, Blunt, Margins, RollIn, RowSpace, Stiffness, Tube
from textflow.diagnostics.base import Look, given, look
from textflow.diagnostics.dabi import dabi
from textflow.diagnostics.sample_callbacks import written
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.samplers import Renoise
from textflow.types import Batch

IDS = torch.randint(40, (4, 12), generator=torch.Generator().manual_seed(1))
FIXED = torch.arange(12)[None].expand(4, 12) < torch.tensor([[5], [3], [5], [4]])
BATCH = Batch(IDS, torch.arange(12)[None].expand(4, 12) < 11, FIXED)
OTHER = BATCH._replace(ids=torch.where(FIXED, (IDS + 7) % 40, IDS))
SEEDS = range(4)


@pytest.fixture(scope="module")
def model() -> Generator:
    made = untrained(objective=ELFObjective(pads=True), escape=Commit(), sampler=Renoise())
    made.given = 5
    return made


def beliefs(seen: Look) -> tuple[torch.Tensor, ...]:
    """What the net believes at one state after the source, and both readings of the real latents."""
    z = seen.path.mix(seen.x, Noise(SEEDS).normal_like(seen.x), 0.6)
    belief = seen.denoise(z, 0.6)
    assert seen.tokens is not None
    return belief.mean, seen.read(seen.x), seen.tokens(z, 0.6, belief)


def test_the_source_is_known_and_only_the_target_counts(model: Generator) -> None:
    seen = look(model, BATCH)
    assert torch.equal(seen.mask, BATCH.mask & ~FIXED)
    met = seen.terminal(4, Noise(SEEDS))
    assert torch.equal(met.guess[FIXED], seen.x[FIXED]) and not torch.equal(met.guess[~FIXED], seen.x[~FIXED])
    found = dabi(seen.read, seen.x, met.guess, seen.mask, Noise(SEEDS), draws=2)
    assert found.size.positions == int((BATCH.mask & ~FIXED).sum())


def test_another_source_is_another_belief_about_the_same_target(model: Generator) -> None:
    here, there = look(model, BATCH), look(model, OTHER)
    assert torch.equal(here.x[~FIXED], there.x[~FIXED])
    for one, other in zip(beliefs(here), beliefs(there), strict=True):
        assert not torch.allclose(one[~FIXED], other[~FIXED], atol=1e-4)


def test_without_pairs_nothing_is_given(model: Generator) -> None:
    plain = Batch(BATCH.ids, BATCH.mask)
    seen = look(model, plain)
    assert given(model, plain) is None and torch.equal(seen.mask, BATCH.mask)
    assert torch.equal(seen.read(seen.x), model.logits(seen.x))


def test_chosen_tokens_count_where_they_were_not_given(model: Generator) -> None:
    prompt = given(model, BATCH)
    made = model.sample(list(SEEDS), 3, prompt=prompt)
    assert torch.equal(made.ids[FIXED], BATCH.ids[FIXED]) and torch.equal(written(made.ids, prompt), ~FIXED)
    assert 0 < CCI(steps=3).measure(model, BATCH, Noise(SEEDS))["cci"] < 1


@pytest.mark.parametrize(
    "watch",
    [
        *(DABI(steps=4, draws=2), Tube(steps=4, candidates=3), RollIn(steps=3), RowSpace(steps=3)),
        *(Blunt(steps=3, draws=2), CCI(steps=3), Margins(steps=3), Stiffness(steps=2, iterations=2)),
    ],
    ids=lambda watch: type(watch).__name__,
)
def test_every_callback_hears_the_source(model: Generator, watch: Any) -> None:
    one, other = (watch.measure(model, batch, Noise(SEEDS)) for batch in (BATCH, OTHER))
    assert one.keys() and all(math.isfinite(value) for value in [*one.values(), *other.values()])
    assert dict(one) != dict(other)
