"""The closed-form decode-error schedule of one-hot latents."""

import pytest
import torch

from tests.helpers.recordings import recorded
from textflow.schedules import OneHotDecodeError


@pytest.mark.parity
def test_it_is_the_published_clock() -> None:
    data, meta = recorded("flm")
    for size in meta["config"]["clock_V"]:
        tau, t = (data[f"clock.{size}.{name}"] for name in ("tau", "t_of_tau"))
        inside = (tau > 1e-4) & (tau < 1 - 1e-4)
        found = OneHotDecodeError(size, 4097).icdf(tau.double())
        torch.testing.assert_close(found[inside], t.double()[inside], rtol=0, atol=1e-4)


def test_its_grid_spends_its_steps_where_tokens_appear() -> None:
    grid = OneHotDecodeError(50_257).grid(8)
    assert grid[0] == 0.0 and grid[-1] == 1.0 and grid[1] > 0.6  # one of 50,257 tokens is found late
    assert OneHotDecodeError(2).grid(8)[1] < grid[1]


def test_a_single_token_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="vocab_size 1"):
        OneHotDecodeError(1)
