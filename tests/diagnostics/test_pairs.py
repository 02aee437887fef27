"""Diagnostics of a run of pairs: the source is the prompt, the target is measured."""

import math
from typing import Any

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.diagnostics import CCI, DABI, DecoderTemperature, Margins, RollIn, RowSpace, Stiffness, Tube
from textflow.diagnostics.base import DiagnosticInputs, diagnostic_inputs, prompt_of
from textflow.diagnostics.dabi import dabi
from textflow.diagnostics.sample_callbacks import generated_mask
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.samplers import Ancestral
from textflow.types import Batch

IDS = torch.randint(40, (4, 12), generator=torch.Generator().manual_seed(1))
FIXED = torch.arange(12)[None].expand(4, 12) < torch.tensor([[5], [3], [5], [4]])
BATCH = Batch(IDS, torch.arange(12)[None].expand(4, 12) < 11, FIXED)
OTHER = BATCH._replace(ids=torch.where(FIXED, (IDS + 7) % 40, IDS))
SEEDS = range(4)


@pytest.fixture(scope="module")
def model() -> Generator:
    made = untrained(objective=ELFObjective(loss_on_padding=True), escape=Commit(), sampler=Ancestral())
    made.max_source_length = 5
    return made


def beliefs(seen: DiagnosticInputs) -> tuple[torch.Tensor, ...]:
    """The net's belief at one state after the source, and both readouts of the real latents."""
    z = seen.path.mix(seen.x, Noise(SEEDS).normal_like(seen.x), 0.6)
    belief = seen.denoise(z, 0.6)
    assert seen.token_logits is not None
    return belief.mean, seen.decode(seen.x), seen.token_logits(z, 0.6, belief)


def test_the_source_is_known_and_only_the_target_counts(model: Generator) -> None:
    seen = diagnostic_inputs(model, BATCH)
    assert torch.equal(seen.mask, BATCH.mask & ~FIXED)
    met = seen.terminal_posterior(4, Noise(SEEDS))
    assert torch.equal(met.x0_pred[FIXED], seen.x[FIXED]) and not torch.equal(met.x0_pred[~FIXED], seen.x[~FIXED])
    found = dabi(seen.decode, seen.x, met.x0_pred, seen.mask, Noise(SEEDS), num_draws=2)
    assert found.size.num_positions == int((BATCH.mask & ~FIXED).sum())


def test_another_source_is_another_belief_about_the_same_target(model: Generator) -> None:
    here, there = diagnostic_inputs(model, BATCH), diagnostic_inputs(model, OTHER)
    assert torch.equal(here.x[~FIXED], there.x[~FIXED])
    for one, other in zip(beliefs(here), beliefs(there), strict=True):
        assert not torch.allclose(one[~FIXED], other[~FIXED], atol=1e-4)


def test_without_pairs_nothing_is_given(model: Generator) -> None:
    plain = Batch(BATCH.ids, BATCH.mask)
    seen = diagnostic_inputs(model, plain)
    assert prompt_of(model, plain) is None and torch.equal(seen.mask, BATCH.mask)
    assert torch.equal(seen.decode(seen.x), model.decode_logits(seen.x))


def test_chosen_tokens_count_where_they_were_not_given(model: Generator) -> None:
    prompt = prompt_of(model, BATCH)
    made = model.sample(list(SEEDS), 3, prompt=prompt)
    assert torch.equal(made.ids[FIXED], BATCH.ids[FIXED]) and torch.equal(generated_mask(made.ids, prompt), ~FIXED)
    assert 0 < CCI(num_steps=3).measure(model, BATCH, Noise(SEEDS))["cci/value"] < 1


@pytest.mark.parametrize(
    "watch",
    [
        *(
            DABI(num_steps=4, num_draws=2),
            Tube(num_steps=4, num_candidates=3),
            RollIn(num_steps=3),
            RowSpace(num_steps=3),
        ),
        *(
            DecoderTemperature(num_steps=3, num_draws=2),
            CCI(num_steps=3),
            Margins(num_steps=3),
            Stiffness(num_steps=2, num_iterations=2),
        ),
    ],
    ids=lambda watch: type(watch).__name__,
)
def test_every_callback_hears_the_source(model: Generator, watch: Any) -> None:
    one, other = (watch.measure(model, batch, Noise(SEEDS)) for batch in (BATCH, OTHER))
    assert one.keys() and all(math.isfinite(value) for value in [*one.values(), *other.values()])
    assert dict(one) != dict(other)
