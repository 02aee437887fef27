"""Trained runs among the decoders: tiny models of each kind."""

import pytest
import torch

from tests.helpers.systems import make
from textflow.eval.controls import measure_controls
from textflow.eval.diagnostic_case import DiagnosticCase
from textflow.eval.figures.fig7 import CONTROLS, FAMILIES
from textflow.eval.run_decoders import measure_rows
from textflow.models.causal_lm import CausalLM
from textflow.types import Batch


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    ids = torch.randint(0, 8, (8, 8), generator=torch.Generator().manual_seed(0))
    return [Batch(part, torch.ones_like(part, dtype=torch.bool)) for part in ids.split(4)]


@pytest.mark.integration
def test_a_generator_has_its_own_residual_first_and_the_numbers_of_diagnose(batches: list[Batch]) -> None:
    model = make("ELF")
    family, (own, other) = measure_rows(model, batches, 0)
    assert family == "continuous text" and (own["error"], other["error"]) == ("denoiser", "empirical posterior")
    known = {(row["residual"], row["control"]): row for row in measure_controls(DiagnosticCase(model, batches, 0))}
    for row in (own, other):
        for control in CONTROLS:
            source = known[row["error"], control]
            assert (row["flips"], row[control]) == (source["flips"], source["random_flips"])
            assert row[f"DABI_{control}_low"] == source["flip_low"] and row[f"DABI_{control}"] == source["flip"]


def test_models_over_tokens_are_measured_at_their_head(batches: list[Batch]) -> None:
    torch.manual_seed(0)
    causal = CausalLM(8, width=16, depth=1, heads=2)
    masked, uniform = make("MDLM"), make("Duo")
    for model in (causal, masked, uniform):
        for p in model.ema_net.parameters():
            p.data.add_(0.3 * torch.randn_like(p))  # an initial net gives every position one state
    counts = {}
    for name, model in (("causal", causal), ("masked", masked), ("uniform", uniform)):
        family, (row,) = measure_rows(model, batches, 0)
        assert family in FAMILIES and row["error"] == "empirical posterior" and 0 <= row["flips"] <= 1
        counts[name] = row["n"]
    half = sum(len(batch.ids) for batch in batches) // 2 * 8
    assert counts["causal"] == half - 4, "the first state of a text sees none of it"
    assert 0 < counts["masked"] < half == counts["uniform"], "only masked tokens are predicted"
