"""A meter adds batches up to what one batch would say."""

from functools import partial

import torch

from textflow.diagnostics.dabi import Response, summary
from textflow.diagnostics.meter import Meter
from textflow.diagnostics.rollin import Flips, rates


def response(rows: int, seed: int) -> Response:
    torch.manual_seed(seed)
    return Response(torch.full((rows,), 10.0).double(), *(torch.rand(rows).double() * 9 for _ in range(4)))


def test_batches_add_up_to_the_whole() -> None:
    whole = response(6, 0)
    meter = Meter(Response, partial(summary, f=1.0, draws=2))
    for rows in (slice(0, 2), slice(2, 6)):
        meter.update(Response(*(part[rows] for part in whole)))
    found, expected = meter.compute(), summary(whole, 1.0, 2)
    assert found == expected and found.size.sequences == 6


def test_a_meter_begins_anew() -> None:
    meter = Meter(Flips, partial(rates, t=0.5))
    for flips in (4.0, 1.0):
        meter.update(Flips(*(torch.tensor([value]).double() for value in (10.0, flips, 0.0, 0.0))))
        assert meter.compute().flip == flips / 10
        meter.reset()
