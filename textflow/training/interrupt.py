"""Interrupt: the first Ctrl-C or SIGTERM asks a run to save and stop, a second Ctrl-C stops it at once."""

import os
import signal
import threading
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info


class Interrupt:
    """A signal handler that remembers being asked.

    Args:
        message: said at the first signal.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        self.asked = False
        self.process = os.getpid()
        self.before: dict[int, Any] = {}

    def install(self, number: int) -> None:
        """Takes over one signal; does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            self.before[number] = signal.signal(number, self)

    def restore(self) -> None:
        """Gives back the signals that are still this handler's."""
        for number, before in self.before.items():
            if signal.getsignal(number) is self:
                signal.signal(number, before)
        self.before = {}

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() != self.process:  # a data worker: Ctrl-C reaches it too, but the run still needs it
            return None if number == signal.SIGINT else self._default(number)
        if self.asked and number == signal.SIGTERM:  # a launcher passes on what its workers were told already
            return None
        if self.asked or not self.before:
            self.restore()
            raise KeyboardInterrupt
        self.asked = True
        rank_zero_info(self.message)
        return None

    def _default(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
