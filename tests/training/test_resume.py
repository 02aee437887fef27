"""A resumed run equals an uninterrupted one bit for bit: weights, optimizer, EMA, losses and log."""

import csv
import os
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.bitwise import is_same
from tests.helpers.processes import Commands, Done
from tests.helpers.toy_run import Toy, fit
from textflow.training import latest_state

pytestmark = pytest.mark.integration  # fits runs

Reference = tuple[Toy, dict[str, Any], list[list[str]]]  # model, state and log of an uninterrupted run


def toy_run(commands: Commands, run: Path, fault: str) -> Done:
    """Twelve steps of the toy run, with a fault, in another process."""
    return commands.run(str(run), "12", fault, script="tests.helpers.toy_run", limit=120)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    model, _ = fit(folder, 12)
    return model, load(folder), log_rows(folder)


def load(run: Path) -> dict[str, Any]:
    return torch.load(str(latest_state(run)), weights_only=True)


def log_rows(run: Path) -> list[list[str]]:
    """Rows of the log, except the speed."""
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row[1] != "train/tokens_per_second"]


def check_resumed(run: Path, reference: Reference, step: int) -> None:
    """Resume a run from a step, and compare it with the uninterrupted run."""
    model, _ = fit(run, 12)
    expected, state, log = reference
    assert model.train_losses == expected.train_losses[step:]
    assert is_same(model.weights(), expected.weights())
    resumed = load(run)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "RowData"):
        assert is_same(resumed[key], state[key]), key
    assert log_rows(run) == log


def test_a_clock_that_jumps_back_changes_nothing(
    reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter(range(10**6, 0, -1))
    monkeypatch.setattr(time, "time", lambda: next(hours) * 3600.0)  # an hour back at each call
    fit(tmp_path, 8, max_time={"hours": 1})
    for number, state in enumerate(sorted((tmp_path / "state").iterdir())):
        os.utime(state, (10**9 - number, 10**9 - number))  # the newest step has the oldest time
    check_resumed(tmp_path, reference, 8)


def test_the_toy_depends_on_its_random_streams(reference: Reference, tmp_path: Path) -> None:
    other, _ = fit(tmp_path, 1, seed=4)
    assert other.train_losses[0] != reference[0].train_losses[0]
    assert len(set(reference[0].train_losses)) == 12


def test_a_run_killed_in_training_resumes(commands: Commands, reference: Reference, tmp_path: Path) -> None:
    assert toy_run(commands, tmp_path, "kill").code == -9
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000004"]
    check_resumed(tmp_path, reference, step=4)


@pytest.mark.parametrize("fault", ["save", "rename"])
def test_a_run_killed_while_it_writes_a_state_resumes_from_the_previous_one(
    commands: Commands, reference: Reference, tmp_path: Path, fault: str
) -> None:
    assert toy_run(commands, tmp_path, fault).code == -9
    assert [p.name for p in sorted((tmp_path / "state").iterdir())] == [".step-00000008.tmp", "step-00000004"]
    with pytest.warns(UserWarning, match=r"\.step-00000008\.tmp was cut off"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"
    check_resumed(tmp_path, reference, step=4)
    assert not list((tmp_path / "state").glob(".*"))


def test_ctrl_c_finishes_the_step_saves_and_shows_the_command_that_resumes(
    commands: Commands, reference: Reference, tmp_path: Path
) -> None:
    done = toy_run(commands, tmp_path, "signal")
    assert done.code == 130, done.err
    assert "finishing this step, saving" in done.err
    assert f"stopped at step 6 and saved in {tmp_path}; to continue: toy_run.py {tmp_path} 12 signal" in done.err
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000006" / "state.pt"
    model, _ = fit(tmp_path, 12)
    assert model.train_losses == reference[0].train_losses[6:]
    assert is_same(model.weights(), reference[0].weights())


def test_an_ended_run_is_extended(reference: Reference, tmp_path: Path) -> None:
    fit(tmp_path, 6)
    check_resumed(tmp_path, reference, step=6)


def test_a_damaged_state_is_named_and_the_previous_one_is_used(reference: Reference, tmp_path: Path) -> None:
    fit(tmp_path, 9)
    newest = tmp_path / "state" / "step-00000009" / "state.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="step-00000009 is damaged .state.pt does not have the checksum"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000008" / "state.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_resumed(tmp_path, reference, step=8)


def test_a_state_without_its_parts_is_damaged(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    state, checksums = (tmp_path / "state" / "step-00000001" / name for name in ("state.pt", "sha256.json"))
    intact = checksums.read_text()
    for content in ("{", "{}", None, intact):
        checksums.unlink() if content is None else checksums.write_text(content)
        if content == intact:
            state.unlink()
        with pytest.warns(UserWarning, match="step-00000001 is damaged"):
            assert latest_state(tmp_path) is None


@pytest.mark.parametrize("settings", [{"period": 1, "limit_train_batches": 2}, {"accumulate_grad_batches": 2}])
def test_a_run_of_several_epochs_or_with_accumulated_gradients_resumes(tmp_path: Path, settings: dict) -> None:
    full, fitter = fit(tmp_path / "full", 6, **settings)
    fit(tmp_path / "resumed", 3, **settings)
    model, _ = fit(tmp_path / "resumed", 6, **settings)
    batches = settings.get("accumulate_grad_batches", 1)
    assert len(full.train_losses) == 6 * batches and fitter.global_step == 6
    assert model.train_losses == full.train_losses[3 * batches :]
    assert is_same(model.weights(), full.weights())


@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 2)])
def test_each_step_takes_its_batches_if_the_accumulation_changes(tmp_path: Path, before: int, after: int) -> None:
    fit(tmp_path, 3, accumulate_grad_batches=before)
    model, fitter = fit(tmp_path, 5, accumulate_grad_batches=after)
    assert len(model.train_losses) == 2 * after and fitter.global_step == 5
    progress = fitter.fit_loop.epoch_loop.batch_progress
    assert progress.total.ready == progress.total.completed == progress.current.completed == 5 * after
    assert [int(row[0]) for row in log_rows(tmp_path) if row[1] == "train/loss"] == list(range(1, 6))
