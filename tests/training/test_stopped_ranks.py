"""SIGTERM to one of two processes: both save one state, one says so, both end, and the run resumes from there."""

import json
from pathlib import Path

import pytest

from tests.helpers.launcher import case, record, rows
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from textflow.training import latest_state

pytestmark = pytest.mark.integration


def train(commands: Commands, folder: Path, fault: str = "") -> str:
    """Train a run in two processes; returns what they print."""
    (folder / "cases-2.json").write_text(json.dumps([case("ddp", "adamw", "run", fault=fault)]))
    done = commands.run(str(folder), "2", script="tests.helpers.engine_runs", limit=300)
    assert done.code == 0 and not done.late and "Traceback" not in done.err, done.err[-3000:]
    return done.err + done.out


def states(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "state").iterdir())


def test_sigterm_to_one_of_two_processes_saves_once_and_ends_both(commands: Commands, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    run = tmp_path / "run"
    message = train(commands, tmp_path, "signal")
    assert message.count("stopped at step 4 and saved in") == 1
    assert states(run) == ["step-00000004"] and [len(record(run, rank)["random"]) for rank in (0, 1)] == [4, 4]
    first = rows(run)
    train(commands, tmp_path)
    assert latest_state(run) == run / "state" / "step-00000010" / "state.pt"
    later = rows(run)
    assert len(later) == 6 * 8 and not [row for row in later if row in first]  # no batch is trained on twice


def test_sigterm_in_a_validation_of_two_processes_saves_the_step_before_it(commands: Commands, tmp_path: Path) -> None:
    write_recipe(tmp_path)
    message = train(commands, tmp_path, "signal_in_validation")
    assert message.count("stopped at step 5 and saved in") == 1 and states(tmp_path / "run") == ["step-00000005"]
    refusals = [(tmp_path / f"run-{rank}.refused").read_text() for rank in (0, 1)]
    assert refusals == ["the validation of step 5 is left out, to save and stop"] * 2
