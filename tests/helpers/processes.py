"""textflow's commands, and scripts of tests, in processes that can be killed, each a fork of one that has everything
imported.

As a script it is that process: it reads a JSON request a line and answers with a JSON line.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
MEMORY = 6 << 30  # bytes of address space beyond what the imports take


class Done(NamedTuple):
    """How a command ended.

    Args:
        code: its exit code; -9 where it was killed.
        out: its standard output.
        err: its standard error.
        late: whether it ran into the limit.
    """

    code: int
    out: str
    err: str
    late: bool


class Commands:
    """Starts the process that forks."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "tests.helpers.processes"]
        # W&B's service of the tests' own process would keep a killed child's run for alive.
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_SERVICE")}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, cwd=ROOT, env=own, stdin=pipe, stdout=pipe, text=True)

    def run(
        self,
        *words: str,
        limit: float = 600.0,
        kill: float | None = None,
        watch: str = "",
        script: str = "",
        folder: Path = ROOT,
    ) -> Done:
        """Run a command.

        Args:
            words: after `textflow`, or after the name of the script.
            limit: seconds after which it counts as hanging, and is killed.
            kill: seconds after which it is killed with SIGKILL; None lets it end.
            watch: the seconds to the kill count from when this file or folder is there.
            script: a module whose main(words) is run instead of textflow's.
            folder: where it is run.
        """
        assert self.process.stdin and self.process.stdout
        asked = {"words": words, "limit": limit, "kill": kill, "watch": watch, "script": script, "folder": str(folder)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return Done(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin and self.process.stdout
        self.process.kill()  # it keeps nothing
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def serve() -> None:
    """Answers requests until there are no more."""
    import pyarrow  # noqa: F401
    import torch

    import textflow.cli.check
    import textflow.cli.fit
    import textflow.cli.preflight
    import textflow.cli.sample
    import textflow.config.recipe
    import textflow.eval.measure
    import textflow.training  # noqa: F401

    torch.set_num_threads(1)
    textflow.config.recipe.load_recipe(
        ["recipes/quickstart.yaml"]
    )  # classes whose arguments are known are parsed sooner
    answers = os.dup(1)
    os.dup2(2, 1)
    for line in sys.stdin:
        os.write(answers, (json.dumps(answer(**json.loads(line))) + "\n").encode())


def answer(words: list[str], limit: float, kill: float | None, watch: str, script: str, folder: str) -> dict[str, Any]:
    """What became of a request."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.chdir(folder)
            command(words, script, out.fileno(), err.fileno())
        with suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)  # so that it can be killed with all that it starts, from the first moment on
        code, late = ended(child, limit, kill, watch)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return {"code": code, "out": said[0], "err": said[1], "late": late}


def ended(child: int, limit: float, kill: float | None, watch: str) -> tuple[int, bool]:
    """Waits for a process, kills its group when it is time; its exit code, and whether it came too late."""
    start = time.monotonic()
    since = None if watch else start
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if pid:
            return os.waitstatus_to_exitcode(status), False
        if since is None and os.path.exists(watch):
            since = now
        if (due := kill is not None and since is not None and now - since >= kill) or now - start >= limit:
            os.killpg(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status), not due
        time.sleep(0.001)


def command(words: list[str], script: str, out: int, err: int) -> None:
    """Runs a command in this process and ends it; an exception that no command may let through is code 99."""
    os.setpgid(0, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
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
    serve()
