"""DiagnosticMetric over batches equals one large batch."""

import torch

from textflow.diagnostics.dabi import Response, summarise_response
from textflow.diagnostics.metric import DiagnosticMetric
from textflow.diagnostics.rollin import FlipCounts, rollin_rates


def random_response(rows: int, seed: int) -> Response:
    torch.manual_seed(seed)
    return Response(torch.full((rows,), 10.0).double(), *(torch.rand(rows).double() * 9 for _ in range(4)))


def summary(response: Response) -> dict[str, float]:
    result = summarise_response(response, 1.0, 2)
    return {
        "ce": result.loss.value,
        "low": result.loss.low,
        "flip": result.flip.value,
        "sequences": result.size.num_sequences,
    }


def test_batches_add_up_to_one_large_batch_and_a_reset_removes_them() -> None:
    response = random_response(6, 0)
    metric = DiagnosticMetric(Response, summary)
    for rows in (slice(0, 2), slice(2, 6)):
        metric.update(Response(*(part[rows] for part in response)))
    assert metric.compute() == summary(response) and summary(response)["sequences"] == 6
    metric = DiagnosticMetric(FlipCounts, lambda counts: {"flips": rollin_rates(counts, 0.5).flip_rate})
    for flips in (4.0, 1.0):
        metric.update(FlipCounts(*(torch.tensor([value]).double() for value in (10.0, flips, 0.0, 0.0))))
        assert metric.compute() == {"flips": flips / 10}
        metric.reset()
