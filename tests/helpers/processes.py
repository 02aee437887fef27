"""Commands of textflow and scripts of tests in processes that can be killed, forked from one with all imports done."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

ROOT = Path(__file__).parents[2]


class Done(NamedTuple):
    """Result of a command."""

    code: int  # exit code; -9 if it was killed
    out: str
    err: str
    late: bool  # it reached the time limit


class Commands:
    """Client of the process that forks, whose imports take seconds: the first client starts it for all.

    Args:
        folder: where the clients of a test run meet.
    """

    def __init__(self, folder: Path) -> None:
        self.process: subprocess.Popen[str] | None = None
        connection, address = socket.socket(socket.AF_UNIX), str(folder / "commands")
        with FileLock(f"{address}.lock"):
            try:
                connection.connect(address)
            except OSError:  # none was started, or it has ended with its client
                self.process = start(address)
                connection.connect(address)
        self.lines = connection.makefile("rw")

    def run(self, *words: str, **options: Any) -> Done:
        """Run a command with arguments of `textflow` or of a script, and keyword arguments of `forks.answer`."""
        self.lines.write(json.dumps({"words": words, **options}, default=str) + "\n")
        self.lines.flush()
        return Done(**json.loads(self.lines.readline()))

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()


def start(address: str) -> "subprocess.Popen[str]":
    """Start the process that forks, and wait until it listens."""
    # W&B's service of the tests' own process would keep a killed child's run alive.
    there = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_SERVICE")}
    argv, pipe = [sys.executable, "-m", "tests.helpers.forks", address], subprocess.PIPE
    process = subprocess.Popen(argv, cwd=ROOT, env=there, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout and process.stdout.readline() == "listening\n"
    return process


def skip_fsync(descriptor: int) -> None:
    """In the place of os.fsync: what a killed process wrote stays, so that only the loss of power needs the disk."""
