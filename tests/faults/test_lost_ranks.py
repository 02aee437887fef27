"""Two processes that are killed and gone on with by one, and one by two: the same rows in the same order."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.processes import ROOT
from tests.helpers.row_recorder import rows
from tests.helpers.tiny_recipe import write_recipe
from textflow.training import latest_state
from textflow.training.checkpoint_io import step_of

pytestmark = [pytest.mark.slow, pytest.mark.integration]
STEPS, BATCH, LIMIT = 80, 8, 300.0
WORDS = [
    "--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8",
    "--model.objective.time_schedule", "LogitNormal",
    "--run.save_every", "4", "--run.sample_every", "1000", "--trainer.enable_progress_bar", "false",
    "--trainer.max_steps", str(STEPS), "--trainer.callbacks", "[{class_path: tests.helpers.row_recorder.RowRecorder}]",
]  # fmt: skip


def fit(teacher: Path, run: Path, ranks: int, log_folder: Path) -> subprocess.Popen[bytes]:
    """`textflow fit` in so many processes, a group of their own; their rows and what they say go into a folder."""
    log_folder.mkdir()
    overlay = [str(ROOT / "recipes" / "strategy" / "ddp.yaml")] * (ranks > 1)
    command = [sys.executable, "-m", "textflow.cli.app", "fit", str(teacher), *overlay, *WORDS]
    command += ["--run.folder", str(run), "--trainer.devices", str(ranks), "--data.batch_size", str(BATCH // ranks)]
    own = os.environ | {"OMP_NUM_THREADS": "1", "ROWS": str(log_folder), "TEXTFLOW_TRUST": "tests"}
    with open(log_folder / "said", "wb") as message:
        return subprocess.Popen(command, cwd=ROOT, env=own, stdout=message, stderr=message, start_new_session=True)


def finished(process: subprocess.Popen[bytes], log_folder: Path) -> str:
    """What a fit said that came to its end."""
    code, message = process.wait(LIMIT), (log_folder / "said").read_text()
    assert code == 0 and "Traceback" not in message, message[-3000:]
    return message


def killed(process: subprocess.Popen[bytes], log_folder: Path, state: Path) -> None:
    """Kills every process of a fit when a state is there."""
    deadline = time.monotonic() + LIMIT
    while not state.exists():
        assert process.poll() is None and time.monotonic() < deadline, (log_folder / "said").read_text()[-3000:]
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and the rows of one process that nothing disturbed, in `told`."""
    folder = tmp_path_factory.mktemp("whole")
    finished(fit(write_recipe(folder), folder / "run", 1, folder / "told"), folder / "told")
    return folder


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_killed_ranks_are_gone_on_with_by_another_number(whole: Path, tmp_path: Path, before: int, after: int) -> None:
    run, first, then = tmp_path / "run", tmp_path / "first", tmp_path / "then"
    killed(fit(whole / "teacher.yaml", run, before, first), first, run / "state" / "step-00000020")
    state = latest_state(run)
    assert state is not None and 20 <= (step := step_of(state.parent)) < STEPS
    message = finished(fit(whole / "teacher.yaml", run, after, then), then)
    assert f"continued from step-{step:08d}" in message
    expected, old, new = rows(whole / "told", 1), rows(first, before), rows(then, after)
    assert list(expected) == list(range(STEPS)) and len(expected[0]) == BATCH
    assert old == {at: expected[at] for at in range(len(old))} and len(old) >= step
    assert new == {at: expected[at] for at in range(step, STEPS)}
    assert latest_state(run) == run / "state" / f"step-{STEPS:08d}" / "state.pt"
