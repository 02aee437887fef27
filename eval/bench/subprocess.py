"""Jobs in a subprocess that is killed at its timeout."""

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


def run_command(
    command: list[str], timeout: float, parse: Callable[[str], dict[str, Any]], folder: Path | None = None
) -> dict[str, Any]:
    """Record printed by a process, or a one-line reason; the process and its children are killed at the timeout.

    Args:
        command: program and its arguments.
        timeout: time limit, seconds.
        parse: turns the standard output into a record.
        folder: working directory; default: this process's.
    """
    if timeout <= 0:
        return {"skipped": "no time was left"}
    start = time.monotonic()
    with (  # no pipe, which a grandchild could hold open
        TemporaryFile("w+", encoding="utf-8", errors="replace") as stdout,
        TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr,
    ):
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder, start_new_session=True)
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            return {"skipped": f"killed after {timeout:.3g} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if code:
            return {"skipped": f"ended with {code}: {last_line(read_all(stderr)) or last_line(read_all(stdout))}"}
        return parse(read_all(stdout)) | {"wall_seconds": time.monotonic() - start}


def read_all(file: IO[str]) -> str:
    """Full text of a file."""
    file.seek(0)
    return file.read()


def last_line(output: str) -> str:
    """Last nonblank line."""
    return one_line(next((row for row in reversed(output.splitlines()) if row.strip()), ""))


def one_line(text: str, max_length: int = 200) -> str:
    """Text on one line, cut at `max_length` characters."""
    return " ".join(text.split())[:max_length]


def parse_record(output: str) -> dict[str, Any]:
    """Record that a job printed as its last line."""
    try:
        return json.loads(output.rsplit("\n", 1)[-1])
    except ValueError:
        return {"skipped": f"printed no record: {last_line(output)}"}


def run_gpu_tests(device: str, timeout: float) -> dict[str, Any]:
    """Summary line of pytest for the tests that need a GPU."""
    files = [
        str(file) for file in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in file.read_text(encoding="utf-8")
    ]
    if device != "cuda" or not files:
        return {"skipped": "there is no GPU" if device != "cuda" else f"there are no tests in {ROOT}"}
    options = ["-q", "-o", "addopts=", "--import-mode=importlib", "-m", "gpu", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    return run_command(command, timeout, lambda output: {"summary": last_line(output)}, ROOT)
