"""Clocks at scale: few logits at a time, and no look at a law that was looked at already."""

import pytest
import torch
from torch.testing import assert_close

from textflow.paths import LinearPath
from textflow.schedules import DecodeError, FlipRate, base
from textflow.types import Batch, Latents, Posterior

CODES = torch.eye(16) * 4
IDS = torch.randint(16, (20, 10), generator=torch.Generator().manual_seed(0))


def law(clock: DecodeError | FlipRate) -> tuple[torch.Tensor, int]:
    """What is measured, and the most logits that were asked at once."""
    most = 0

    def read(z: Latents) -> torch.Tensor:
        nonlocal most
        most = max(most, z[..., 0].numel() * 16)
        return z @ CODES.T

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return Posterior((t * (z @ CODES.T)).softmax(-1) @ CODES)

    torch.manual_seed(0)
    clock.fit(read, LinearPath(1.0), CODES[IDS], Batch(IDS, torch.ones_like(IDS, dtype=torch.bool)), denoise)
    return next(clock.buffers()), most


@pytest.mark.parametrize("kind", [DecodeError, FlipRate])
def test_a_clock_is_measured_with_few_logits_at_a_time(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, all_at_once = law(kind(num_points=9))
    monkeypatch.setattr(base, "LOGIT_BUDGET", 3 * 160)
    parts, few = law(kind(num_points=9))
    assert all_at_once == 20 * 160 and few == 3 * 160
    assert_close(parts, whole, rtol=0, atol=1e-12)


def test_a_law_is_looked_at_again_only_when_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, isnan = [], torch.Tensor.isnan
    monkeypatch.setattr(torch.Tensor, "isnan", lambda self: looks.append(1) or isnan(self))
    clock = DecodeError()
    assert not clock.fitted and not clock.fitted and len(looks) == 1
    clock.assume_uniform()
    assert clock.fitted and len(clock.sample(3)) == 3 and len(looks) == 2
    clock.load_state_dict(DecodeError().state_dict())
    assert not clock.fitted and len(looks) == 3
