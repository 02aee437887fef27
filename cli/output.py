"""Standard output and error of commands: streams that were closed, have no reader, or are on a full disk."""

import os
import select
import sys
from typing import TextIO


class OutputError(OSError):
    """An error of writing to standard output or error, but not of one that has no reader."""


def write_output(stream: TextIO, text: str) -> None:
    """Write a text of any length. What of a long one cannot be written is in no buffer, where `is_broken_stream` would
    find the error again, so that it is raised as an OutputError."""
    try:
        stream.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def output_streams() -> list[TextIO]:
    """Standard output and error; one that was closed before the command began, as by `>&-`, goes to nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, stays open to the end
    return [sys.stdout, sys.stderr]


def silence_broken_streams() -> bool:
    """Send the output of streams that take none to nowhere, so that Python's own flush does not fail too."""
    broken = [stream for stream in output_streams() if is_broken_stream(stream)]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for stream in broken:
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(broken)


def is_broken_stream(stream: TextIO) -> bool:
    """True if a stream takes no output: its disk is full, or it is a pipe or socket whose other end is closed."""
    try:
        stream.flush()
    except OSError:
        return True
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):  # not a file of the system
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def is_of_output(error: Exception) -> bool:
    """True for an error of writing to standard output or error, which names no file."""
    if isinstance(error, OutputError):
        return True
    return isinstance(error, OSError) and not error.filename and any(map(is_broken_stream, output_streams()))
