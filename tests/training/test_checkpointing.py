"""CheckpointCallback: files of the run folder, and disks that are full, read-only or damaged."""

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.helpers.toy_run import RowData, Toy, fit, trainer
from textflow.training import CheckpointCallback, TrainingModule, checkpoint_io, latest_state
from textflow.training.checkpoint_io import SafeCheckpointIO, begin_state, finish_state, prune_states, unfinished_folder

pytestmark = pytest.mark.integration  # fits runs


def state_names(run: Path) -> list[str]:
    return sorted(p.name for p in (run / "state").iterdir())


def test_the_run_folder_holds_two_states_and_the_ema_weights(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 10, every=3)
    assert state_names(tmp_path) == ["step-00000009", "step-00000010"]
    assert sorted(p.name for p in (tmp_path / "state" / "step-00000010").iterdir()) == ["sha256.json", "state.pt"]
    weights = load_file(tmp_path / "model.safetensors")
    assert weights.keys() == model.weights().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.weights().items())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "10"
    assert not list(tmp_path.rglob(".*"))


def test_a_state_is_written_after_the_log_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[int, set[str]] = {}

    def finish_and_read_log(run: Path, step: int) -> Path:
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        logged[step] = {name for logged_step, name, _ in rows if logged_step == str(step)}
        return finish_state(run, step)

    monkeypatch.setattr(checkpoint_io, "finish_state", finish_and_read_log)
    fit(tmp_path, 6, every=3)
    assert list(logged) == [3, 6]
    assert all({"train/loss", "val/loss"} <= names for names in logged.values())


def test_a_failed_validation_loses_no_due_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no validation")

    monkeypatch.setattr(TrainingModule, "validation_step", fail)
    with pytest.raises(RuntimeError, match="no validation"):
        fit(tmp_path, 6, every=3)
    assert state_names(tmp_path) == ["step-00000003"]
    monkeypatch.undo()
    model, _ = fit(tmp_path, 6, every=3)
    assert len(model.train_losses) == 3 and state_names(tmp_path) == ["step-00000003", "step-00000006"]


def test_only_the_newest_intact_states_up_to_the_step_are_kept(tmp_path: Path) -> None:
    fit(tmp_path, 8)
    state = tmp_path / "state"
    for step in (2, 9):
        shutil.copytree(state / "step-00000008", state / f"step-{step:08d}")
    (state / "step-00000004" / "state.pt").write_bytes(b"damaged")
    prune_states(tmp_path, 8, keep_last_n=2)
    assert state_names(tmp_path) == ["step-00000002", "step-00000008"]


def test_a_state_of_several_files_is_intact_or_damaged(tmp_path: Path) -> None:
    """Lightning's sharded strategies write such states."""
    begin_state(tmp_path, 3)
    shards = unfinished_folder(tmp_path, 3) / "state.pt"
    shards.mkdir()
    for rank in range(2):
        (shards / f"rank_{rank}.pt").write_bytes(bytes(9))
    state = finish_state(tmp_path, 3)
    assert latest_state(tmp_path) == state / "state.pt"
    (state / "state.pt" / "rank_1.pt").write_bytes(bytes(8))
    with pytest.warns(UserWarning, match=r"rank_1.pt does not have the checksum.*no other state to resume from"):
        assert latest_state(tmp_path) is None


def test_a_finished_run_does_nothing_when_started_again(tmp_path: Path) -> None:
    fit(tmp_path, 1)
    file = tmp_path / "state" / "step-00000001" / "state.pt"
    written = file.stat().st_mtime_ns
    model, _ = fit(tmp_path, 1)
    assert model.train_losses == [] and file.stat().st_mtime_ns == written


def test_a_full_disk_leaves_the_previous_checkpoint_untouched(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(toy: Toy) -> None:
        if len(toy.train_losses) == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))

    try:
        with pytest.raises(OSError, match="cannot save step 8: File too large; .*step-00000004, is untouched. Free"):
            fit(tmp_path, 12, Toy(after=fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert state_names(tmp_path) == ["step-00000004"]
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"
    fit(tmp_path, 8)  # after space is freed


def test_a_state_that_does_not_read_back_replaces_no_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte changes between the rename and the verification."""
    rename = os.rename

    def rename_and_damage(source: Path, target: Path) -> None:
        rename(source, target)
        if target.name == "step-00000008":
            data = (target / "state.pt").read_bytes()
            (target / "state.pt").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    fitter = trainer(tmp_path, 12)
    fitter.checkpoint_callback.keep_last_n = 1  # type: ignore[union-attr]
    with monkeypatch.context() as patch:
        patch.setattr("textflow.training.checkpoint_io.os.rename", rename_and_damage)
        with pytest.raises(OSError, match=r"step-00000008 does not read back .*; .* it, step-00000004, is untouched"):
            fitter.fit(Toy(), datamodule=RowData())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "4"
    with pytest.warns(UserWarning, match="step-00000008 is damaged"):
        assert latest_state(tmp_path) == tmp_path / "state" / "step-00000004" / "state.pt"


def test_a_folder_that_cannot_be_written_is_reported_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    model = Toy()
    with pytest.raises(OSError, match="cannot save in the run folder: .*no checkpoint yet"):
        fit(tmp_path, 2, model)
    assert model.train_losses == []


class Unsafe(L.Callback):
    """A callback whose state holds code."""

    def state_dict(self) -> dict[str, Any]:
        return {"code": Toy}


def test_a_state_with_code_is_not_written(tmp_path: Path) -> None:
    fitter = trainer(tmp_path, 1)
    fitter.callbacks.insert(0, Unsafe())
    with pytest.raises(ValueError, match="more than tensors and plain data"):
        fitter.fit(Toy(), datamodule=RowData())
    assert not list((tmp_path / "state").glob("step-*"))


def test_code_in_a_state_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"code": Toy}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="more than tensors and plain data"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "state.pt", weights_only=False)


def test_an_old_state_that_cannot_be_removed_yet_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = shutil.rmtree

    def remove_all_but_first(path: Path, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "step-00000001":
            raise OSError(39, "Directory not empty", str(path))
        rmtree(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_all_but_first)
        with pytest.warns(UserWarning, match="step-00000001 is no longer needed and cannot be removed yet"):
            fit(tmp_path, 3, every=1)
    assert state_names(tmp_path) == ["step-00000001", "step-00000002", "step-00000003"]
    fit(tmp_path, 4, every=1)
    assert state_names(tmp_path) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("name", ["every_n_steps", "keep_last_n"])
def test_settings_below_one_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        CheckpointCallback(tmp_path, **{name: 0})
