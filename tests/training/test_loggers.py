"""Loggers: metrics.csv and W&B."""

import csv
from pathlib import Path

import pytest

from tests.helpers.toy_run import fit
from textflow.training import MetricsCSVLogger, make_loggers
from textflow.training.loggers import make_wandb_logger


def rows(run: Path) -> list[tuple[int, str, float]]:
    with open(run / "metrics.csv") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_values_are_logged_with_the_number_of_completed_steps(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 4)
    log = rows(tmp_path)
    losses = [(step, value) for step, name, value in log if name == "train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert [value for _, value in losses] == pytest.approx(model.train_losses)
    assert [step for step, name, _ in log if name == "val/loss"] == [3]
    assert [value for _, name, value in log if name == "train/lr"][-1] == pytest.approx(1e-2)
    assert {name for _, name, _ in log} == {
        "train/loss", "train/certainty", "train/lr", "train/tokens_per_second", "val/loss", "val/certainty"
    }  # fmt: skip


def test_rewinding_drops_later_rows_and_an_incomplete_one(tmp_path: Path) -> None:
    log = MetricsCSVLogger(tmp_path)
    for step in range(4):
        log.log_metrics({"a": step / 7, "epoch": 0}, step)
    with open(log.path, "a") as file:
        file.write("2,a")
    log.rewind(2)
    log.log_metrics({"a": 1}, 2)
    assert rows(tmp_path) == [(1, "a", 0.0), (2, "a", 1 / 7), (3, "a", 1.0)]
    log.rewind(0)
    assert rows(tmp_path) == []
    MetricsCSVLogger(tmp_path / "none").rewind(3)


@pytest.fixture
def wandb_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a W&B mode or key."""
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


@pytest.mark.integration
def test_wandb_is_offline_without_a_key_and_a_resumed_run_keeps_its_id(
    tmp_path: Path, wandb_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        fit(tmp_path, 3, logger=make_loggers(tmp_path))
    assert "W&B is offline" in caplog.text
    run_id = (tmp_path / "wandb_id").read_text().strip()
    _, trainer = fit(tmp_path, 6, logger=make_loggers(tmp_path))
    assert trainer.loggers[1].version == run_id
    runs = [p for p in (tmp_path / "wandb").iterdir() if p.name.startswith("offline-run-")]
    assert len(runs) == 2 and all(p.name.split("-")[3] == run_id for p in runs)  # runs of one second end in -1
    tables = list((tmp_path / "wandb").rglob("*.table.json"))
    assert any('"text 1"' in table.read_text() for table in tables)


def test_wandb_mode_follows_the_key_the_environment_and_the_argument(
    tmp_path: Path, wandb_environment: pytest.MonkeyPatch
) -> None:
    def mode(**settings: str) -> str:
        return make_wandb_logger(tmp_path, **settings)._wandb_init["mode"]

    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    assert mode() == "online"
    wandb_environment.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode() == "offline"
    wandb_environment.setenv("WANDB_API_KEY", "abc")
    assert mode() == "online" and mode(mode="disabled") == "disabled"
    wandb_environment.setenv("WANDB_MODE", "offline")
    assert mode() == "offline"


def test_without_wandb_only_the_csv_file_is_written(tmp_path: Path) -> None:
    assert [type(logger) for logger in make_loggers(tmp_path, wandb=False)] == [MetricsCSVLogger]
    assert not (tmp_path / "wandb_id").exists()
