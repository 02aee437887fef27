"""Schedules at scale: few logits at a time, and one check of a fitted buffer."""

import pytest
import torch
from torch.testing import assert_close

from textflow.paths import LinearPath
from textflow.schedules import DecodeError, FlipRate, base
from textflow.types import Batch, Latents, Posterior

CODES = torch.eye(16) * 4
IDS = torch.randint(16, (20, 10), generator=torch.Generator().manual_seed(0))


def measure(schedule: DecodeError | FlipRate) -> tuple[torch.Tensor, int]:
    """The measured table, and the most logits in memory at once."""
    most = 0

    def read(z: Latents) -> torch.Tensor:
        nonlocal most
        most = max(most, z[..., 0].numel() * 16)
        return z @ CODES.T

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return Posterior((t * (z @ CODES.T)).softmax(-1) @ CODES)

    torch.manual_seed(0)
    schedule.fit(read, LinearPath(1.0), CODES[IDS], Batch(IDS, torch.ones_like(IDS, dtype=torch.bool)), denoise)
    return next(schedule.buffers()), most


@pytest.mark.parametrize("kind", [DecodeError, FlipRate])
def test_a_schedule_is_measured_with_few_logits_at_a_time(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, all_at_once = measure(kind(num_points=9))
    monkeypatch.setattr(base, "LOGIT_BUDGET", 3 * 160)
    table, few = measure(kind(num_points=9))
    assert all_at_once == 20 * 160 and few == 3 * 160
    assert_close(table, expected, rtol=0, atol=1e-12)


def test_a_buffer_is_checked_again_only_after_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, isnan = [], torch.Tensor.isnan
    monkeypatch.setattr(torch.Tensor, "isnan", lambda self: checks.append(1) or isnan(self))
    schedule = DecodeError()
    assert not schedule.fitted and not schedule.fitted and len(checks) == 1
    schedule.assume_uniform()
    assert schedule.fitted and len(schedule.sample(3)) == 3 and len(checks) == 2
    schedule.load_state_dict(DecodeError().state_dict())
    assert not schedule.fitted and len(checks) == 3
