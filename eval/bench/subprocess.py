"""Work in a process of its own, which is killed when its time is over."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]


def ran(
    command: list[str], seconds: float, read: Callable[[str], dict[str, Any]], folder: Path | None = None
) -> dict[str, Any]:
    """What a process finds, or in one line why it found nothing; it and what it started never outlast their time.

    Args:
        command: of the process.
        seconds: that it may take.
        read: makes a record of what it printed.
        folder: that it runs in; default: this process's own.
    """
    if seconds <= 0:
        return {"left_out": "no time was left"}
    start = time.monotonic()
    with TemporaryFile("w+") as said, TemporaryFile("w+") as failed:  # no pipe that a grandchild could hold open
        child = subprocess.Popen(command, stdout=said, stderr=failed, cwd=folder, start_new_session=True)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"left_out": f"killed after {seconds:.3g} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if code:
            return {"left_out": f"ended with {code}: {last(text(failed)) or last(text(said))}"}
        return read(text(said)) | {"wall": time.monotonic() - start}


def text(file: IO[str]) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read()


def last(said: str) -> str:
    """The last line that says something."""
    return short(next((row for row in reversed(said.splitlines()) if row.strip()), ""))


def short(said: str, most: int = 200) -> str:
    """A text in one line of at most so many characters."""
    return " ".join(said.split())[:most]


def record_in(said: str) -> dict[str, Any]:
    """What a job printed in its last line."""
    try:
        return json.loads(said.rsplit("\n", 1)[-1])
    except ValueError:
        return {"left_out": f"printed no record: {last(said)}"}


def tested(device: str, seconds: float) -> dict[str, Any]:
    """What pytest says last of the tests that need a GPU.

    Args:
        device: cuda, or they are left out.
        seconds: that they may take.
    """
    files = [str(file) for file in sorted(ROOT.glob("tests/*/test_*.py")) if "mark.gpu" in file.read_text()]
    if device != "cuda" or not files:
        return {"left_out": "there is no GPU" if device != "cuda" else f"there are no tests in {ROOT}"}
    options = ["-q", "-o", "addopts=", "--import-mode=importlib", "-m", "gpu", "-p", "no:cacheprovider"]
    return ran([sys.executable, "-m", "pytest", *options, *files], seconds, lambda said: {"said": last(said)}, ROOT)
