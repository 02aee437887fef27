"""NonFiniteGuard: stop a run with a non-finite loss, without synchronising with the GPU."""

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """Loss or weights that are not finite: the training has diverged."""


class NonFiniteGuard:
    """Check that losses are finite; on a GPU each loss is checked when the next one arrives, through pinned memory."""

    def __init__(self) -> None:
        self.pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None

    def watch(self, step: int, loss: Tensor) -> None:
        """Check the previous loss, and this one too unless it is on a GPU; the error names the step."""
        self.check()
        if not loss.is_cuda:
            self.pending = (step, loss.detach(), None)
            return self.check()
        value = torch.empty((), dtype=loss.dtype, pin_memory=True).copy_(loss.detach(), non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self.pending = (step, value, event)

    def check(self) -> None:
        """Raise NonFiniteError if the pending loss is not finite."""
        if self.pending is None:
            return
        (step, value, event), self.pending = self.pending, None
        if event is not None:
            event.synchronize()
        if not bool(torch.isfinite(value)):
            raise NonFiniteError(
                f"the loss of step {step} is {float(value)}; needs a finite loss. Lower the learning rate, or clip"
                " (trainer.gradient_clip_val); the last checkpoint in the run folder is from before this step"
            )
