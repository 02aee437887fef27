"""Interrupt: the first Ctrl-C or SIGTERM requests save and stop, a second Ctrl-C stops at once."""

import os
import signal
import threading
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info


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

    def restore(self) -> None:
        """Restore the previous handlers of signals that this handler still owns."""
        for number, handler in self.previous_handlers.items():
            if signal.getsignal(number) is self:
                signal.signal(number, handler)
        self.previous_handlers = {}

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() != self.pid:
            if number != signal.SIGINT:  # Ctrl-C reaches data workers too, but the run still needs them
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif self.requested and number == signal.SIGTERM:
            pass  # a launcher forwards a signal that its workers already received
        elif self.requested or not self.previous_handlers:
            self.restore()
            raise KeyboardInterrupt
        else:
            self.requested = True
            rank_zero_info(self.message)
