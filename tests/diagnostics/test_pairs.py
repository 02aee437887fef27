"""Diagnostics of a run of pairs: the source is the prompt, the target is measured."""

import math

import pytest
import torch

from tests.helpers.tiny_generator import untrained
from textflow.diagnostics import CCI, DABI, DecoderTemperature, Diagnostic, Margins, RollIn, RowSpace, Stiffness, Tube
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
PROMPT_MASK = torch.arange(12)[None].expand(4, 12) < torch.tensor([[5], [3], [5], [4]])
BATCH = Batch(IDS, torch.arange(12)[None].expand(4, 12) < 11, PROMPT_MASK)
OTHER = BATCH._replace(ids=torch.where(PROMPT_MASK, (IDS + 7) % 40, IDS))
SEEDS = range(4)


@pytest.fixture(scope="module")
def model() -> Generator:
    generator = untrained(objective=ELFObjective(loss_on_padding=True), escape=Commit(), sampler=Ancestral())
    generator.text_format = generator.text_format._replace(max_source_length=5)
    return generator


def beliefs(inputs: DiagnosticInputs) -> tuple[torch.Tensor, ...]:
    """The net's belief at one state after the source, and both readouts of the real latents."""
    z = inputs.path.mix(inputs.x, Noise(SEEDS).normal_like(inputs.x), 0.6)
    belief = inputs.denoise(z, 0.6)
    assert inputs.token_logits is not None
    return belief.mean, inputs.decode(inputs.x), inputs.token_logits(z, 0.6, belief)


def test_the_source_is_the_prompt_and_only_the_target_is_measured(model: Generator) -> None:
    inputs = diagnostic_inputs(model, BATCH)
    assert torch.equal(inputs.mask, BATCH.mask & ~PROMPT_MASK)
    terminal = inputs.terminal_posterior(4, Noise(SEEDS))
    assert torch.equal(terminal.x0_pred[PROMPT_MASK], inputs.x[PROMPT_MASK]) and not torch.equal(
        terminal.x0_pred[~PROMPT_MASK], inputs.x[~PROMPT_MASK]
    )
    result = dabi(inputs.decode, inputs.x, terminal.x0_pred, inputs.mask, Noise(SEEDS), num_draws=2)
    assert result.size.num_positions == int((BATCH.mask & ~PROMPT_MASK).sum())


def test_another_source_changes_the_belief_about_the_target(model: Generator) -> None:
    inputs, other = diagnostic_inputs(model, BATCH), diagnostic_inputs(model, OTHER)
    assert torch.equal(inputs.x[~PROMPT_MASK], other.x[~PROMPT_MASK])
    for a, b in zip(beliefs(inputs), beliefs(other), strict=True):
        assert not torch.allclose(a[~PROMPT_MASK], b[~PROMPT_MASK], atol=1e-4)


def test_text_without_pairs_has_no_prompt(model: Generator) -> None:
    plain = Batch(BATCH.ids, BATCH.mask)
    inputs = diagnostic_inputs(model, plain)
    assert prompt_of(model, plain) is None and torch.equal(inputs.mask, BATCH.mask)
    assert torch.equal(inputs.decode(inputs.x), model.decode_logits(inputs.x))


def test_cci_covers_the_positions_outside_the_prompt(model: Generator) -> None:
    prompt = prompt_of(model, BATCH)
    samples = model.sample(list(SEEDS), 3, prompt=prompt)
    assert torch.equal(samples.ids[PROMPT_MASK], BATCH.ids[PROMPT_MASK]) and torch.equal(
        generated_mask(samples.ids, prompt), ~PROMPT_MASK
    )
    assert 0 < CCI(num_steps=3).measure(model, BATCH, Noise(SEEDS))["cci/value"] < 1


@pytest.mark.integration
@pytest.mark.parametrize(
    "diagnostic",
    [
        DABI(num_steps=4, num_draws=2),
        Tube(num_steps=4, num_candidates=3),
        RollIn(num_steps=3),
        RowSpace(num_steps=3),
        DecoderTemperature(num_steps=3, num_draws=2),
        CCI(num_steps=3),
        Margins(num_steps=3),
        Stiffness(num_steps=2, num_iterations=1),
    ],
    ids=lambda diagnostic: type(diagnostic).__name__,
)
def test_callbacks_are_conditioned_on_the_source(model: Generator, diagnostic: Diagnostic) -> None:
    one, other = (diagnostic.measure(model, batch, Noise(SEEDS)) for batch in (BATCH, OTHER))
    assert one.keys() and all(math.isfinite(value) for value in [*one.values(), *other.values()])
    assert dict(one) != dict(other)
