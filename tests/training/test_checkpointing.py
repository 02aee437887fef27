"""CheckpointCallback: what stands in the run folder, and what happens when the disk or the user says no."""

import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.helpers.toy_run import Data, Toy, fit, trainer
from textflow.training import CheckpointCallback, latest_state
from textflow.training.checkpoint_io import (
    SafeCheckpointIO,
    begin_state,
    find_damage,
    finish_state,
    prune_states,
    unfinished_folder,
)
from textflow.training.interrupt import Interrupt


def names(run: Path) -> list[str]:
    return sorted(p.name for p in (run / "state").iterdir())


def test_the_folder_has_two_states_and_the_averaged_weights(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 10, every=3)
    assert names(tmp_path) == ["step-00000009", "step-00000010"]
    assert sorted(p.name for p in (tmp_path / "state" / "step-00000010").iterdir()) == ["sha256.json", "state.pt"]
    weights = load_file(tmp_path / "model.safetensors")
    assert weights.keys() == model.weights().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.weights().items())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "10"
    assert not list(tmp_path.rglob(".*"))


def test_a_state_is_written_when_the_log_holds_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, set[str]]] = []

    def noted(run: Path, step: int) -> Path:
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        seen.append((step, {name for at, name, _ in rows if at == str(step)}))
        return finish_state(run, step)

    monkeypatch.setattr("textflow.training.callbacks.checkpointing.finish_state", noted)
    fit(tmp_path, 6, every=3)
    assert [step for step, _ in seen] == [3, 6]
    assert all({"train/loss", "val/loss"} <= logged for _, logged in seen)


def test_a_look_that_fails_loses_no_step_that_was_to_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("no look")

    monkeypatch.setattr(Toy, "validation_step", fails)
    with pytest.raises(RuntimeError, match="no look"):
        fit(tmp_path, 6, every=3)
    assert names(tmp_path) == ["step-00000003"]
    monkeypatch.undo()
    model, _ = fit(tmp_path, 6, every=3)
    assert len(model.seen) == 3 and names(tmp_path) == ["step-00000003", "step-00000006"]


@pytest.mark.integration
def test_states_of_an_abandoned_future_go_once_a_new_one_is_whole(tmp_path: Path) -> None:
    fit(tmp_path, 8, every=4)
    model, coach = Toy(), trainer(tmp_path, 6, every=6)
    coach.fit(model, datamodule=Data(), ckpt_path=tmp_path / "state" / "step-00000004" / "state.pt")
    assert names(tmp_path) == ["step-00000004", "step-00000006"]


def test_a_damaged_state_takes_no_good_ones_place(tmp_path: Path) -> None:
    fit(tmp_path, 12)
    state = tmp_path / "state"
    shutil.copytree(state / "step-00000008", state / "step-00000004")
    (state / "step-00000008" / "state.pt").write_bytes(b"torn")
    prune_states(tmp_path, 12, keep_last_n=2)
    assert names(tmp_path) == ["step-00000004", "step-00000012"]


def test_a_state_of_several_files_is_whole_or_damaged(tmp_path: Path) -> None:
    """As sharded strategies write it."""
    begin_state(tmp_path, 3)
    shards = unfinished_folder(tmp_path, 3) / "state.pt"
    shards.mkdir()
    for rank in range(2):
        (shards / f"rank_{rank}.pt").write_bytes(bytes(9))
    whole = finish_state(tmp_path, 3)
    assert latest_state(tmp_path) == whole / "state.pt"
    (whole / "state.pt" / "rank_1.pt").write_bytes(bytes(8))
    with pytest.warns(
        UserWarning, match=r"rank_1.pt does not have the checksum.*there is no other state to resume from"
    ):
        assert latest_state(tmp_path) is None


def test_a_finished_run_started_again_does_nothing(tmp_path: Path) -> None:
    fit(tmp_path, 4)
    before = (tmp_path / "state" / "step-00000004" / "state.pt").stat().st_mtime_ns
    model, _ = fit(tmp_path, 4)
    assert model.seen == []
    assert (tmp_path / "state" / "step-00000004" / "state.pt").stat().st_mtime_ns == before


def test_a_full_disk_leaves_the_checkpoint_before_untouched(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(toy: Toy) -> None:
        if len(toy.seen) == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))

    try:
        with pytest.raises(OSError, match="cannot save step 8: File too large; .*step-00000004, is untouched. Free"):
            fit(tmp_path, 12, Toy(after=fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000004"]
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"
    fit(tmp_path, 12)  # space was made


@pytest.mark.integration
def test_a_state_that_does_not_read_back_takes_no_older_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte changes between the rename and the reading."""
    whole = os.rename

    def damages(beside: Path, path: Path) -> None:
        whole(beside, path)
        if path.name == "step-00000008":
            data = (path / "state.pt").read_bytes()
            (path / "state.pt").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    coach = trainer(tmp_path, 12)
    coach.checkpoint_callback.keep_last_n = 1  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr("textflow.training.checkpoint_io.os.rename", damages)
        with pytest.raises(OSError, match=r"step-00000008 does not read back .*; .* it, step-00000004, is untouched"):
            coach.fit(Toy(), datamodule=Data())
    assert find_damage(tmp_path / "state" / "step-00000004") is None
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "4"
    with pytest.warns(UserWarning, match="step-00000008 is damaged"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    model = Toy()
    with pytest.raises(OSError, match="cannot save in the run folder: .*no checkpoint yet"):
        fit(tmp_path, 2, model)
    assert model.seen == []


class Unsafe(L.Callback):
    """Puts code into the state."""

    def state_dict(self) -> dict[str, Any]:
        return {"fault": Toy}


@pytest.mark.integration
def test_a_state_that_could_not_be_read_back_safely_is_refused(tmp_path: Path) -> None:
    coach = trainer(tmp_path, 4)
    coach.callbacks.insert(0, Unsafe())
    with pytest.raises(ValueError, match="more than tensors and plain data"):
        coach.fit(Toy(), datamodule=Data())
    assert not list((tmp_path / "state").glob("step-*"))


def test_code_in_a_state_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"code": Toy}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="more than tensors and plain data"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "state.pt", weights_only=False)


def test_an_old_state_that_cannot_be_removed_yet_is_left_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.rmtree

    def stuck(path: Path, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "step-00000004":
            raise OSError(39, "Directory not empty", str(path))
        whole(path, *args, **kwargs)

    monkeypatch.setattr(shutil, "rmtree", stuck)
    with pytest.warns(UserWarning, match="step-00000004 is no longer needed and cannot be removed yet"):
        fit(tmp_path, 12)
    assert names(tmp_path) == ["step-00000004", "step-00000008", "step-00000012"]
    monkeypatch.undo()
    fit(tmp_path, 16)
    assert names(tmp_path) == ["step-00000012", "step-00000016"]


def test_sigterm_saves_and_the_signals_are_given_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    ask = Toy(after=lambda toy: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2 * (len(toy.seen) == 5))])
    with caplog.at_level("INFO"):
        _, coach = fit(tmp_path, 12, ask)
    assert coach.global_step == 5 and coach.checkpoint_callback.stopped  # type: ignore[union-attr]
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000005" / "state.pt"
    assert "5,val/loss" not in (tmp_path / "metrics.csv").read_text()  # no validation that keeps the user waiting
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_between_accumulated_batches_waits_for_the_step(tmp_path: Path) -> None:
    ask = Toy(after=lambda toy: os.kill(os.getpid(), signal.SIGINT) if len(toy.seen) == 4 else None)
    model, coach = fit(tmp_path, 12, ask, accumulate_grad_batches=3, min_steps=12)
    assert len(model.seen) == 6 and coach.global_step == 2
    assert names(tmp_path) == ["step-00000002"]


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    ask = Toy(after=lambda toy: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2 * (len(toy.seen) == 6))])
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, 12, ask)
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path) == ["step-00000004"]


def test_an_interrupt_that_was_given_back_stops_as_usual() -> None:
    interrupt = Interrupt("asked")
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)


@pytest.mark.parametrize("wrong", [{"every_n_steps": 0}, {"keep_last_n": 0}])
def test_settings_out_of_range_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        CheckpointCallback(tmp_path, **wrong)
