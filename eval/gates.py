"""Thresholds of the two margin gates: the early exit of a sampler, and the gate of a commitment."""

import torch

from textflow.diagnostics.gates import GateMargins, GateThreshold, fit_early_exit, fit_margin_gate, text_margins

from .controls import take_rows
from .diagnostic_case import DiagnosticCase, Row

TOLERANCE = 0.005  # share of tokens that may come out otherwise


def measure_gates(case: DiagnosticCase, steps: int = 8) -> list[Row]:
    """Thresholds fitted on half of the rows, and the tokens that they get wrong in the other half. A gate that does not
    fit the model has no row."""
    model, (seeds, prompt) = case.model, case.first_rows()
    if len(seeds) < 2:
        raise ValueError("gates are fitted on half of the rows and measured on the other; give -n 2 or more")
    found = dict[str, GateThreshold]()
    if prompt is None and model.order.block_size(model.sampling_net) is None:
        found["early exit"] = fit_early_exit(model, seeds, steps, TOLERANCE)
    if all(model.codec.has_latent_per_token(batch.ids.shape[1]) for batch in case.batches):
        half = len(seeds) // 2
        first, second = take_rows(case, range(half)), take_rows(case, range(half, len(seeds)))
        second = second._replace(seed=case.seed + 1)  # noise of its own
        found["commit"] = fit_margin_gate(all_margins(first, steps), all_margins(second, steps), TOLERANCE)
    return [gate_row(name, steps, gate) for name, gate in found.items()]


def all_margins(case: DiagnosticCase, steps: int) -> GateMargins:
    """Margins of all rows at the interior times of a grid."""
    parts = [
        text_margins(inputs, batch.ids, inputs.sampling_times(steps), noise)
        for batch, (inputs, noise) in zip(case.batches, case.diagnostic_inputs(), strict=True)
    ]
    margin, wrong = (torch.cat([part[i] for part in parts], 1) for i in (0, 1))
    return GateMargins(margin, wrong, torch.cat([part.mask for part in parts]))


def gate_row(name: str, steps: int, gate: GateThreshold) -> Row:
    """Row of a gate: calls of an early exit are a mean a text, committed is a share of positions."""
    share = gate.disagreement
    row = {"gate": name, "K": steps, "margin": gate.margin, "disagreement": share.value}
    row |= {"disagreement_low": share.low, "disagreement_high": share.high}
    exits = name == "early exit"
    row |= {"calls": gate.acting if exits else None, "committed": None if exits else gate.acting}
    return row | {"tolerance": TOLERANCE, "texts": gate.num_texts}
