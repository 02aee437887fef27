"""A meter adds batches up to what one batch would say."""

import torch

from textflow.diagnostics.dabi import Response, summary
from textflow.diagnostics.metric import Meter
from textflow.diagnostics.rollin import Flips, rates


def response(rows: int, seed: int) -> Response:
    torch.manual_seed(seed)
    return Response(torch.full((rows,), 10.0).double(), *(torch.rand(rows).double() * 9 for _ in range(4)))


def numbers(seen: Response) -> dict[str, float]:
    found = summary(seen, 1.0, 2)
    return {"ce": found.loss.value, "low": found.loss.low, "flip": found.flip.value, "sequences": found.size.sequences}


def test_batches_add_up_to_the_whole() -> None:
    whole = response(6, 0)
    meter = Meter(Response, numbers)
    for rows in (slice(0, 2), slice(2, 6)):
        meter.update(Response(*(part[rows] for part in whole)))
    assert meter.compute() == numbers(whole) and numbers(whole)["sequences"] == 6


def test_a_meter_begins_anew() -> None:
    meter = Meter(Flips, lambda seen: {"flips": rates(seen, 0.5).flip})
    for flips in (4.0, 1.0):
        meter.update(Flips(*(torch.tensor([value]).double() for value in (10.0, flips, 0.0, 0.0))))
        assert meter.compute() == {"flips": flips / 10}
        meter.reset()
