"""DiagnosticMetric over batches equals one large batch."""

import torch

from textflow.diagnostics.dabi import Response, summarise_response
from textflow.diagnostics.metric import DiagnosticMetric
from textflow.diagnostics.rollin import FlipCounts, rollin_rates


def response(rows: int, seed: int) -> Response:
    torch.manual_seed(seed)
    return Response(torch.full((rows,), 10.0).double(), *(torch.rand(rows).double() * 9 for _ in range(4)))


def numbers(seen: Response) -> dict[str, float]:
    found = summarise_response(seen, 1.0, 2)
    return {
        "ce": found.loss.value,
        "low": found.loss.low,
        "flip": found.flip.value,
        "sequences": found.size.num_sequences,
    }


def test_batches_add_up_to_the_whole() -> None:
    whole = response(6, 0)
    meter = DiagnosticMetric(Response, numbers)
    for rows in (slice(0, 2), slice(2, 6)):
        meter.update(Response(*(part[rows] for part in whole)))
    assert meter.compute() == numbers(whole) and numbers(whole)["sequences"] == 6


def test_a_meter_begins_anew() -> None:
    meter = DiagnosticMetric(FlipCounts, lambda seen: {"flips": rollin_rates(seen, 0.5).flip_rate})
    for flips in (4.0, 1.0):
        meter.update(FlipCounts(*(torch.tensor([value]).double() for value in (10.0, flips, 0.0, 0.0))))
        assert meter.compute() == {"flips": flips / 10}
        meter.reset()
