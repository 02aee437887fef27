"""A run that was killed continues as if it had not been: weights, optimizer, twin, losses, log; to the bit."""

import csv
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.processes import Commands, Done
from tests.helpers.toy_run import Toy, fit
from textflow.training import latest_state


def child(commands: Commands, run: Path, max_steps: int, how: str) -> Done:
    """The toy run in a process of its own."""
    return commands.run(str(run), str(max_steps), how, script="tests.helpers.toy_run", limit=120)


@cache
def unbroken(folder: Path) -> tuple[Toy, dict[str, Any], list[list[str]]]:
    """Twelve steps in one go."""
    model, _ = fit(folder, 12)
    return model, load(folder), rows(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, dict[str, Any], list[list[str]]]:
    return unbroken(tmp_path_factory.mktemp("whole"))


def load(run: Path) -> dict[str, Any]:
    state = latest_state(run)
    assert state is not None
    return torch.load(state, weights_only=True)


def rows(run: Path) -> list[list[str]]:
    """Of the log, but for the speed."""
    with open(run / "metrics.csv") as file:
        return [row for row in csv.reader(file) if row[1] != "train/tokens_per_second"]


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, whatever is nested in whatever."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def check_equal(run: Path, model: Toy, whole: tuple[Toy, dict[str, Any], list[list[str]]], since: int) -> None:
    reference, state, log = whole
    assert model.seen == reference.seen[since:]
    assert same(model.weights(), reference.weights())
    found = load(run)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "Data"):
        assert same(found[key], state[key]), key
    assert rows(run) == log


def test_the_toy_depends_on_its_streams(whole: Any, tmp_path: Path) -> None:
    other, _ = fit(tmp_path, 2, seed=4)
    assert other.seen[0] != whole[0].seen[0]
    assert len(set(whole[0].seen)) == 12


@pytest.mark.integration
def test_killed_in_training_it_continues_to_the_bit(commands: Commands, whole: Any, tmp_path: Path) -> None:
    assert child(commands, tmp_path, 12, "kill").code == -9
    assert [p.name for p in sorted((tmp_path / "state").iterdir())] == ["step-00000004"]
    model, _ = fit(tmp_path, 12)
    check_equal(tmp_path, model, whole, since=4)


def test_stopped_after_half_it_continues_to_the_bit(whole: Any, tmp_path: Path) -> None:
    fit(tmp_path, 6)
    model, _ = fit(tmp_path, 12)
    check_equal(tmp_path, model, whole, since=6)


@pytest.mark.integration
@pytest.mark.parametrize("how", ["save", "rename"])
def test_killed_while_it_writes_a_checkpoint_it_continues_from_the_one_before(
    commands: Commands, whole: Any, tmp_path: Path, how: str
) -> None:
    assert child(commands, tmp_path, 12, how).code == -9
    assert [p.name for p in sorted((tmp_path / "state").iterdir())] == [".step-00000008.tmp", "step-00000004"]
    with pytest.warns(UserWarning, match=r"\.step-00000008\.tmp was cut off"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"
    model, _ = fit(tmp_path, 12)
    check_equal(tmp_path, model, whole, since=4)
    assert not list((tmp_path / "state").glob(".*"))


def test_a_changed_byte_is_named_and_the_state_before_is_used(whole: Any, tmp_path: Path) -> None:
    fit(tmp_path, 9)
    newest = tmp_path / "state" / "step-00000009" / "state.pt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="step-00000009 is damaged .state.pt does not have the checksum"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000008" / "state.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = fit(tmp_path, 12)
    check_equal(tmp_path, model, whole, since=8)


@pytest.mark.parametrize("fault", ["no sums", "torn sums", "empty sums", "no state"])
def test_a_state_without_its_parts_is_damaged(tmp_path: Path, fault: str) -> None:
    fit(tmp_path, 4)
    state = tmp_path / "state" / "step-00000004"
    if fault == "no state":
        (state / "state.pt").unlink()
    elif fault == "no sums":
        (state / "sha256.json").unlink()
    else:
        (state / "sha256.json").write_text("{" if fault == "torn sums" else "{}")
    with pytest.warns(UserWarning, match="step-00000004 is damaged"):
        assert latest_state(tmp_path) is None


@pytest.mark.integration
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(
    commands: Commands, whole: Any, tmp_path: Path
) -> None:
    done = child(commands, tmp_path, 12, "signal")
    assert done.code == 130, done.err
    assert "finishing this step, saving" in done.err
    assert f"stopped at step 6 and saved in {tmp_path}; to continue: toy_run.py {tmp_path} 12 signal" in done.err
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000006" / "state.pt"
    model, _ = fit(tmp_path, 12)
    assert model.seen == whole[0].seen[6:]
    assert same(model.weights(), whole[0].weights())


def test_a_run_of_several_epochs_continues_to_the_bit(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path / "a", 10, period=1, limit_train_batches=4)
    fit(tmp_path / "b", 5, period=1, limit_train_batches=4)
    model, _ = fit(tmp_path / "b", 10, period=1, limit_train_batches=4)
    assert model.seen == whole.seen[5:]
    assert same(model.weights(), whole.weights())


def test_accumulated_gradients_continue_to_the_bit(tmp_path: Path) -> None:
    whole, coach = fit(tmp_path / "a", 6, accumulate_grad_batches=2)
    fit(tmp_path / "b", 3, accumulate_grad_batches=2)
    model, _ = fit(tmp_path / "b", 6, accumulate_grad_batches=2)
    assert len(whole.seen) == 12 and coach.global_step == 6
    assert model.seen == whole.seen[6:]
    assert same(model.weights(), whole.weights())


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_each_step_takes_its_batches_where_another_number_is_accumulated(
    tmp_path: Path, before: int, after: int
) -> None:
    fit(tmp_path, 5, accumulate_grad_batches=before)
    model, coach = fit(tmp_path, 8, accumulate_grad_batches=after)
    assert len(model.seen) == 3 * after and coach.global_step == 8
    progress = coach.fit_loop.epoch_loop.batch_progress
    assert progress.total.ready == progress.total.completed == progress.current.completed == 8 * after
    assert [int(row[0]) for row in rows(tmp_path) if row[1] == "train/loss"] == list(range(1, 9))
