"""Signals, besides Ctrl-C, by which a scheduler or a closed terminal announces the end of a job."""

import signal

_NAMES = ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # those of this system
