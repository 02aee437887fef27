"""Finite: stops a run whose loss is not a number, without making the host wait for a GPU."""

import torch
from torch import Tensor


class Finite:
    """Watches losses; on a GPU one is judged when the next arrives, through pinned memory."""

    def __init__(self) -> None:
        self.pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def watch(self, step: int, loss: Tensor) -> None:
        """Judges the loss before this one, and this one too if it is at hand.

        Args:
            step: named in the error.
            loss: a scalar.
        """
        self.check()
        if not loss.is_cuda:
            self.pending = (step, loss.detach(), None)
            return self.check()
        value = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self.pending = (step, value, event)

    def check(self) -> None:
        """Raises if the last loss watched is not finite."""
        if self.pending is None:
            return
        (step, value, event), self.pending = self.pending, None
        if event is not None:
            event.synchronize()
        if not bool(torch.isfinite(value)):
            raise ValueError(
                f"the loss of step {step} is {float(value)}; needs a finite loss. Lower the learning rate, or clip"
                " (trainer.gradient_clip_val); the last checkpoint in the run folder is from before this step"
            )
