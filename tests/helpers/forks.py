"""The process that forks commands, as a script: on each connection it answers JSON requests, a line each, with JSON."""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.helpers.processes import ROOT, skip_fsync

MEMORY = 6 << 30  # bytes of address space beyond those of the imports


def serve(address: str) -> None:
    """Answer the requests of each connection in a fork, until the standard input ends."""
    gc.disable()  # until all is imported
    import pandas  # noqa: F401  which pyarrow imports with the first rows
    import pyarrow.compute  # noqa: F401
    import torch

    import textflow.cli.check  # noqa: F401
    import textflow.cli.fit  # noqa: F401
    import textflow.cli.preflight  # noqa: F401
    import textflow.cli.sample  # noqa: F401
    import textflow.config.recipe
    import textflow.eval.measure  # noqa: F401
    import textflow.training  # noqa: F401

    torch.set_num_threads(1)
    os.fsync = skip_fsync
    textflow.config.recipe.load_recipe(["recipes/small/elf.yaml"])  # later recipes are parsed faster
    gc.freeze()
    gc.enable()
    Path(address).unlink(missing_ok=True)
    listener = socket.create_server(address, family=socket.AF_UNIX)
    print("listening", flush=True)
    os.dup2(2, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no fork is waited for
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            answer_all(connection)
        connection.close()


def answer_all(connection: socket.socket) -> None:
    """Answer the requests of one client, and end this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw") as lines:
        for line in lines:
            lines.write(json.dumps(answer(**json.loads(line))) + "\n")
            lines.flush()
    os._exit(0)


def answer(
    words: list[str], limit: float = 600.0, kill: float | None = None, watch: str = "", script: str = "",
    folder: str = str(ROOT), interrupt: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Run a command in a fork.

    Args:
        words: arguments of `textflow` or of the script.
        limit: seconds after which the command counts as hanging and is killed.
        kill: seconds until SIGKILL; None for no kill.
        watch: path whose appearance starts the seconds of `kill`.
        script: module whose main(words) is run instead of textflow's.
        folder: working directory.
        interrupt: signal such as SIGINT that a command gets when it is due, in place of SIGKILL; it ends by itself.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.chdir(folder)
            run_and_exit(words, script, out.fileno(), err.fileno())
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)  # so that it can be killed with all its children from the first moment
        code, late = wait(child, limit, kill, watch, interrupt)
        for file in (out, err):
            file.seek(0)
        texts = {name: file.read().decode(errors="replace") for name, file in (("out", out), ("err", err))}
        return {"code": code, **texts, "late": late}


def wait(child: int, limit: float, kill: float | None, watch: str, interrupt: str) -> tuple[int, bool]:
    """Wait for a process, and kill or interrupt its group when due; return its exit code, and whether it was late.

    Time in which this process was stopped, with its child, does not count towards the limit.
    """
    last, ran = time.monotonic(), 0.0
    kill_start = None if watch else last
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        ran, last = ran + min(now - last, 1.0), now
        if pid:
            return os.waitstatus_to_exitcode(status), False
        if kill_start is None and os.path.exists(watch):
            kill_start = now
        due = kill is not None and kill_start is not None and now - kill_start >= kill
        if due and interrupt:
            os.killpg(child, signal.Signals[interrupt])
            kill = None
        elif due or ran >= limit:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status), not due
        time.sleep(0.001)


def run_and_exit(words: list[str], script: str, out: int, err: int) -> None:
    """Run a command in this process and end it; an exception that no command may raise is code 99."""
    os.setpgid(0, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    code = 99
    try:
        sys.argv = [script.rsplit(".", 1)[-1] + ".py" if script else "textflow", *words]
        code = import_module(script or "textflow.cli.app").main(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(ValueError):  # a command that closed its output
            sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
