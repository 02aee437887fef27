"""Interrupt: the first Ctrl-C, SIGTERM or SIGUSR1 requests save and stop, a second Ctrl-C stops at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

from textflow.runtime.rank_zero import rank_zero_info
from textflow.runtime.signals import STOP_SIGNALS


class StopRequested(Exception):
    """Raised to leave an evaluation in the middle of a training that was asked to save and stop."""


class Interrupt:
    """A signal handler that records a stop request.

    Args:
        message: message logged at the first signal.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        self.requested = False
        self.pid = os.getpid()
        self.previous_handlers: dict[int, Any] = {}

    def install(self, number: int) -> None:
        """Install the handler for one signal; does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.previous_handlers[number] = signal.signal(number, self)

    def install_stop_signals(self) -> None:
        """Install the handler for STOP_SIGNALS, except those that this process ignores, as under nohup."""
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.install(number)

    def restore(self) -> None:
        """Restore the previous handlers of signals that this handler still owns."""
        for number, handler in self.previous_handlers.items():
            if signal.getsignal(number) is self:
                signal.signal(number, handler)
        self.previous_handlers = {}

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() != self.pid:
            if number == signal.SIGTERM:  # the others reach data workers too, but the run still needs them
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif self.requested and number != signal.SIGINT:
            pass  # a launcher forwards a signal that its workers already received
        elif self.requested or not self.previous_handlers:
            self.restore()
            raise KeyboardInterrupt
        else:
            self.requested = True
            rank_zero_info(self.message)


def was_interrupted(trainer: L.Trainer) -> bool:
    """Whether a signal stopped the fit."""
    return any(getattr(callback, "stopped", False) for callback in trainer.callbacks)  # type: ignore[attr-defined]


@contextmanager
def leave_when_requested(trainer: L.Trainer, model: Any) -> Iterator[None]:
    """Raise StopRequested in the next network call after a stop was requested; with several processes, never."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    interrupts = [callback.interrupt for callback in callbacks if hasattr(callback, "interrupt")]

    def check(*args: Any) -> None:
        if any(interrupt.requested for interrupt in interrupts):
            raise StopRequested("a signal asked to save and stop")

    nets = {id(net): net for net in (model.net, model.ema_net)} if trainer.world_size == 1 else {}
    hooks = [net.register_forward_pre_hook(check) for net in nets.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
