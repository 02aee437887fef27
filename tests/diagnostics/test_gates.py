"""Thresholds of margin gates on a task whose posterior is exact: the measured disagreement is the real one."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.user_errors import refused
from textflow.diagnostics.base import diagnostic_inputs
from textflow.diagnostics.gates import GateMargins, exiting, fit_early_exit, fit_margin_gate, text_margins
from textflow.eval.diagnostic_case import DiagnosticCase
from textflow.eval.gates import measure_gates
from textflow.noise import Noise
from textflow.oracle.tasks import chain_task
from textflow.samplers import EarlyExit
from textflow.schedules import LogitNormal
from textflow.types import Batch

TASK, STEPS = replace(chain_task(), length=16), 5


@pytest.fixture(scope="module")
def model() -> Any:
    return TASK.make_generator(sampling_schedule=LogitNormal(-0.2, 0.4))


def chain_margins(model: Any, rows: int, seed: int) -> GateMargins:
    """Margins of noised texts of the task."""
    ids = TASK.sample(Noise(range(seed, seed + rows)))
    inputs = diagnostic_inputs(model, Batch(ids, ids >= 0))
    return text_margins(inputs, ids, inputs.sampling_times(STEPS), Noise(range(10**6 + seed, 10**6 + seed + rows)))


def test_the_measured_error_of_a_margin_gate_is_the_real_one_within_its_interval(model: Any) -> None:
    """The real one is the mean of 1 - max p over what commits, p the exact posterior, on texts of its own."""
    gate = fit_margin_gate(chain_margins(model, 60, 0), chain_margins(model, 60, 1000), tolerance=0.02)
    ids = TASK.sample(Noise(range(2000, 2200)))
    inputs, real = diagnostic_inputs(model, Batch(ids, ids >= 0)), list[torch.Tensor]()
    for t in inputs.sampling_times(STEPS)[1:-1]:
        z = TASK.path.mix(inputs.x, Noise(range(5000, 5200)).normal_like(inputs.x), t)
        top = TASK.exact_posterior(z, torch.full((200,), t)).logits.double().topk(2).values
        real.append(-torch.expm1(top[..., 0][top[..., 0] - top[..., 1] >= gate.margin]))
    share = gate.disagreement
    assert share.low is not None and share.high is not None and share.high < 0.05
    assert share.low <= float(torch.cat(real).mean()) <= share.high
    assert 0.2 < gate.acting < 1 and gate.num_texts == 60


def test_the_measured_disagreement_of_an_early_exit_is_the_real_one_within_its_interval(model: Any) -> None:
    exit_ = fit_early_exit(model, list(range(80)), STEPS, tolerance=0.01)
    seeds = list(range(5000, 5100))
    full, early = model.sample(seeds, STEPS).ids, exiting(model, EarlyExit(exit_.margin), seeds, STEPS).ids
    real, share = float((full != early).double().mean()), exit_.disagreement
    assert share.low is not None and share.high is not None and share.low <= real <= share.high < 0.05
    assert real > 0 and exit_.acting < STEPS and model.early_exit is None and exit_.num_texts == 40


def test_the_gate_is_the_smallest_margin_within_the_tolerance_and_infinite_if_none_is() -> None:
    """Of ten margins the second and the fifth are wrong; two are equal and commit together."""
    margin = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 3.0, 2.0, 1.0]).double()[None, None]
    wrong, text = torch.zeros_like(margin, dtype=torch.bool), torch.ones(1, 10, dtype=torch.bool)
    wrong[..., [1, 6]] = True
    margins = GateMargins(margin, wrong, text)
    found = {tolerance: fit_margin_gate(margins, margins, tolerance).margin for tolerance in (0.0, 0.17, 0.2, 0.25)}
    assert found == {0.0: 9.0, 0.17: 4.0, 0.2: 1.0, 0.25: 1.0}
    first = wrong.clone()
    first[..., 0] = True
    none = fit_margin_gate(margins._replace(wrong=first), margins, 0.0)
    assert none.margin == math.inf and none.acting == 0 and none.disagreement.value == 0


def test_the_table_has_a_row_for_each_gate_that_the_model_can_use(model: Any) -> None:
    ids = TASK.sample(Noise(range(12)))
    case = DiagnosticCase(model, [Batch(part, part >= 0) for part in ids.split(5)])
    rows = measure_gates(case, 3)
    assert [row["gate"] for row in rows] == ["early exit", "commit"] and {row["texts"] for row in rows} == {6}
    assert rows[0]["calls"] <= 3 and rows[0]["committed"] is None and 0 <= rows[1]["committed"] <= 1
    refused("give -n 2 or more", measure_gates, case._replace(batches=[case.batches[0].map(lambda part: part[:1])]))
