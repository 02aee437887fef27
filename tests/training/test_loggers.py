"""Loggers: metrics.csv and W&B."""

import csv
import socket
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.helpers.toy_run import Toy, fit
from tests.helpers.user_errors import refused
from textflow.training import MetricsCSVLogger, MuonAdam, loggers, make_loggers, wandb_server
from textflow.training.loggers import make_wandb_logger


def rows(run: Path) -> list[tuple[int, str, float]]:
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_values_are_logged_with_the_number_of_completed_steps(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 4)
    log = rows(tmp_path)
    losses = [(step, value) for step, name, value in log if name == "train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert [value for _, value in losses] == pytest.approx(model.train_losses)
    assert [step for step, name, _ in log if name == "val/loss"] == [3]
    assert {name for _, name, _ in log} == {
        "train/loss", "train/certainty", "train/lr", "train/tokens_per_second", "val/loss", "val/certainty"
    }  # fmt: skip


def rates(run: Path) -> list[float]:
    return [value for _, name, value in rows(run) if name == "train/lr"]


def test_the_learning_rate_of_a_step_is_the_one_it_was_taken_with(tmp_path: Path) -> None:
    used: list[float] = []
    made: list[MuonAdam] = []

    def optimizer(params: Any) -> MuonAdam:
        made.append(MuonAdam(params, lr=1e-2))
        return made[0]

    toy = Toy(optimizer, after=lambda model: used.append(made[0].param_groups[0]["lr"]))
    fit(tmp_path, 5, toy)
    assert rates(tmp_path) == pytest.approx(used)
    assert used == pytest.approx([0, 1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2])


@pytest.mark.integration
def test_the_learning_rate_is_that_of_its_step_after_a_resumption_and_with_accumulation_too(tmp_path: Path) -> None:
    for steps in (2, 4):
        fit(tmp_path, steps, accumulate_grad_batches=2)
    assert rates(tmp_path) == pytest.approx([0, 1e-2 / 3, 2e-2 / 3, 1e-2])


def test_rewinding_drops_later_rows_and_an_incomplete_one(tmp_path: Path) -> None:
    log = MetricsCSVLogger(tmp_path)
    for step in range(4):
        log.log_metrics({"a": step / 7, "epoch": 0}, step)
    with open(log.path, "a", encoding="utf-8") as file:
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
    tmp_path: Path,
    wandb_environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level("INFO"):
        fit(tmp_path, 3, logger=make_loggers(tmp_path))
    assert "W&B is offline" in caplog.text
    assert capsys.readouterr().err.count("Run summary:") == 1, "a fit prints W&B's summary once"
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

    wandb_environment.setattr(loggers, "is_reachable", lambda url: True)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    assert mode() == "online"
    wandb_environment.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode() == "offline"
    wandb_environment.setenv("WANDB_API_KEY", "abc")
    assert mode() == "online" and mode(mode="disabled") == "disabled"
    wandb_environment.setenv("WANDB_MODE", "offline")
    assert mode() == "offline"


def test_a_key_without_a_network_logs_offline_within_seconds_and_says_so(
    tmp_path: Path, wandb_environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as server:  # takes connections and never answers
        server.bind(("127.0.0.1", 0))
        server.listen()
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert not wandb_server.is_reachable(silent, seconds=0.1)
    assert not wandb_server.is_reachable(silent, seconds=5.0), "nobody listens there any more"
    wandb_environment.setenv("WANDB_API_KEY", "abc")
    wandb_environment.setenv("WANDB_BASE_URL", silent)
    for mode in ({}, {"mode": "online"}):
        with caplog.at_level("INFO"):
            assert make_wandb_logger(tmp_path / "a run", **mode)._wandb_init["mode"] == "offline"
        assert f"{silent} does not answer within 5 s, so W&B is offline" in caplog.text
        assert f"wandb sync '{tmp_path}/a run/wandb'/offline*" in caplog.text
        caplog.clear()


def test_a_server_that_refuses_the_key_leaves_the_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def init(**settings: str) -> object:
        modes.append(settings["mode"])
        if settings["mode"] == "online":
            raise wandb.errors.CommError("permission denied")
        return object()

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(loggers, "is_reachable", lambda url: True)
    with pytest.warns(UserWarning, match="W&B cannot start .permission denied"):
        assert make_wandb_logger(tmp_path, mode="online").experiment
    assert modes == ["online", "offline"]


def test_an_unknown_mode_of_wandb_is_named(wandb_environment: pytest.MonkeyPatch) -> None:
    wandb_environment.setenv("WANDB_MODE", "bogus")
    refused("WANDB_MODE is 'bogus', needs online, offline or disabled", wandb_server.wandb_mode)


def test_without_wandb_only_the_csv_file_is_written(tmp_path: Path) -> None:
    assert [type(logger) for logger in make_loggers(tmp_path, wandb=False)] == [MetricsCSVLogger]
    assert not (tmp_path / "wandb_id").exists()
