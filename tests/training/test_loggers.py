"""The log, the bar, the speed and the samples."""

import csv
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.toy_run import Toy, fit
from textflow.training import MetricsCSVLogger, MuonAdam, SampleLogger, Throughput
from textflow.training.callbacks.reseed import mix_seed
from textflow.types import Batch


def rows(run: Path) -> list[tuple[int, str, float]]:
    with open(run / "metrics.csv") as file:
        return [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]


def test_every_number_is_logged_under_the_steps_done(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 7)
    log = rows(tmp_path)
    losses = [(step, value) for step, name, value in log if name == "train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6, 7]
    assert [value for _, value in losses] == pytest.approx(model.seen)
    assert [step for step, name, _ in log if name == "val/loss"] == [3, 6]
    rates = [value for _, name, value in log if name == "train/lr"]
    assert rates[-1] == pytest.approx(1e-2)
    assert {name for _, name, _ in log} == {
        "train/loss", "train/certainty", "train/lr", "train/tokens_per_second", "val/loss", "val/certainty"
    }  # fmt: skip


def test_rewinding_drops_later_rows_and_a_torn_one(tmp_path: Path) -> None:
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


def test_speed_counts_valid_tokens_and_neither_validation_nor_looking() -> None:
    logged: dict[str, float] = {}
    coach = SimpleNamespace(global_step=0, log_every_n_steps=2, world_size=2)
    coach.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.5}])]
    module = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}), eval_seconds=1.0)
    batch = Batch(torch.zeros(2, 5, dtype=torch.long), torch.tensor([[True] * 5, [True] * 2 + [False] * 3]))
    speed = Throughput()
    speed.on_train_start(coach, module)  # type: ignore[arg-type]
    start = time.perf_counter()
    speed.on_validation_start(coach, module)  # type: ignore[arg-type]
    time.sleep(0.3)
    speed.on_validation_end(coach, module)  # type: ignore[arg-type]
    time.sleep(0.2)
    module.eval_seconds += 0.2  # samples or a diagnostic
    for coach.global_step in (1, 2):
        time.sleep(0.05)
        assert not logged
        speed.on_train_batch_end(coach, module, None, batch, 0)
    spent = time.perf_counter() - start
    assert (
        28 / spent < logged["train/tokens_per_second"] < 28 / 0.1
    )  # 2 batches of 7 on 2 ranks, in .1 seconds and more
    assert logged["train/tokens_per_second"] > 28 / (spent - 0.45)
    assert logged["train/lr"] == 0.5


def test_the_bar_counts_steps_to_the_end_and_shows_parts_and_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, 4)
    capsys.readouterr()
    fit(tmp_path, 9, bar=True)
    last = [line for line in capsys.readouterr().out.replace("\r", "\n").splitlines() if line.startswith("Toy:")]
    assert "4/9" in last[0] or "5/9" in last[0]
    assert "9/9" in last[-1] and "loss=" in last[-1] and "certainty=" in last[-1] and "tok/s=" in last[-1]
    assert not any("/5" in line for line in last)


def test_samples_are_written_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 7)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-00000005.txt", "step-00000007.txt"]
    assert (tmp_path / "samples" / "step-00000007.txt").read_text() == "[1] text 0\n[2] text 1\n"
    assert model.training and model.net.training


def test_a_model_that_cannot_sample_is_let_be(tmp_path: Path) -> None:
    module: Any = SimpleNamespace()
    SampleLogger(tmp_path).act(SimpleNamespace(global_step=1), module)
    assert not list(tmp_path.iterdir())


def test_streams_differ_by_seed_batch_rank_and_purpose() -> None:
    streams = {mix_seed(s, b, r) for s in range(3) for b in range(50) for r in range(3)}
    streams |= {mix_seed(s, "validation", b) for s in range(3) for b in range(50)}
    assert len(streams) == 3 * 50 * 3 + 3 * 50
    assert all(0 <= stream < 2**63 for stream in streams)


def test_a_second_epoch_draws_anew(tmp_path: Path) -> None:
    model = Toy(lambda params: MuonAdam(params, lr=0.0))  # the same batch and weights: only the streams differ
    fit(tmp_path, 8, model, period=1, limit_train_batches=2)
    assert len(set(model.seen)) == 8
