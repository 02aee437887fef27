"""Callbacks: speed, progress bar, sample texts, seeds and evaluation without side effects."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.toy_run import Toy, fit
from textflow.training import CpuClock, MuonAdam, SampleLogger, Throughput
from textflow.training.callbacks import progress
from textflow.training.callbacks.reseed import mix_seed
from textflow.training.eval_mode import temporary_eval_mode
from textflow.types import Batch


def test_speed_counts_valid_tokens_and_excludes_validation_and_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, float] = {}
    trainer: Any = SimpleNamespace(global_step=0, log_every_n_steps=2, world_size=2)
    trainer.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.5}])]
    module: Any = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}))
    module.model = SimpleNamespace(eval_seconds=1.0)
    batch = Batch(torch.zeros(2, 5, dtype=torch.long), torch.tensor([[True] * 5, [True] * 2 + [False] * 3]))
    timer = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: timer.seconds))
    speed = Throughput()
    speed.on_train_start(trainer, module)
    speed.on_validation_start(trainer, module)
    timer.seconds += 30
    speed.on_validation_end(trainer, module)
    timer.seconds += 20
    module.model.eval_seconds += 20  # samples or a diagnostic
    for trainer.global_step in (1, 2):
        speed.on_train_batch_start(trainer, module, batch, 0)
        timer.seconds += 5
        assert not logged
        speed.on_train_batch_end(trainer, module, None, batch, 0)
    assert logged["train/tokens_per_second"] == pytest.approx(2 * 7 * 2 / 10)  # 2 batches of 7 tokens on 2 ranks
    assert logged["train/lr"] == 0.5


def test_processor_time_is_that_of_the_steps_and_a_resumed_clock_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[float] = []
    module: Any = SimpleNamespace(log=lambda name, value, **_: logged.append(value))
    timer, batch = SimpleNamespace(seconds=100.0), Batch(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1).bool())
    monkeypatch.setattr(progress, "time", SimpleNamespace(process_time=lambda: timer.seconds))
    first, second = CpuClock(), CpuClock()
    for clock in (first, second):
        if clock is second:
            clock.load_state_dict(first.state_dict())
        timer.seconds += 50  # between two steps
        clock.on_train_batch_start(None, module, batch, 0)
        timer.seconds += 5
        clock.on_train_batch_end(None, module, None, batch, 0)
    assert logged == [5, 10]


@pytest.mark.integration
def test_the_bar_counts_all_steps_and_shows_loss_terms_and_speed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, 2)
    capsys.readouterr()
    fit(tmp_path, 5, bar=0.0)
    bars = [line for line in capsys.readouterr().out.replace("\r", "\n").splitlines() if line.startswith("Toy:")]
    assert "2/5" in bars[0] or "3/5" in bars[0]
    assert all(part in bars[-1] for part in ("5/5", "loss=", "certainty=", "tok/s="))
    assert not any("/3" in line for line in bars)


@pytest.mark.integration
def test_a_log_file_gets_one_line_a_minute_and_nothing_of_validations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = SimpleNamespace(seconds=1000.0)

    def monotonic() -> float:
        timer.seconds += 10.0  # every step takes ten seconds
        return timer.seconds

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=monotonic, perf_counter=time.perf_counter))
    assert progress.StepProgressBar().refresh_seconds == 60
    fit(tmp_path, 15, num_sanity_val_steps=2, bar=60.0)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("Toy: ") and "\r" not in line for line in lines)
    assert [int(line.split()[2].split("/")[0]) for line in lines] == [1, 7, 13, 15]


@pytest.mark.integration
def test_samples_are_written_at_intervals_and_at_the_end(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, 6)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-00000005.txt", "step-00000006.txt"]
    assert (tmp_path / "samples" / "step-00000006.txt").read_text() == "[0] text 0\n[1] text 1\n"
    assert model.training and model.net.training


def test_a_model_without_samples_is_skipped(tmp_path: Path) -> None:
    module: Any = SimpleNamespace()
    SampleLogger(tmp_path).act(SimpleNamespace(global_step=1), module)
    assert not list(tmp_path.iterdir())


def test_random_streams_differ_by_seed_batch_rank_and_purpose() -> None:
    streams = {mix_seed(s, b, r) for s in range(3) for b in range(50) for r in range(3)}
    streams |= {mix_seed(s, "validation", b) for s in range(3) for b in range(50)}
    assert len(streams) == 3 * 50 * 3 + 3 * 50
    assert all(0 <= stream < 2**63 for stream in streams)


def test_each_epoch_has_its_own_random_stream(tmp_path: Path) -> None:
    model = Toy(lambda params: MuonAdam(params, lr=0.0))  # the same batch and weights: only the streams differ
    fit(tmp_path, 4, model, period=1, limit_train_batches=2)
    assert len(set(model.train_losses)) == 4


def test_evaluation_changes_no_random_stream_and_no_mode_and_its_seconds_add_up() -> None:
    model = Toy()
    model.train()
    model.net.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for _ in range(2):
        with pytest.raises(KeyError), temporary_eval_mode(model):
            torch.rand(7)
            assert not model.training and not torch.is_grad_enabled()
            time.sleep(0.01)
            raise KeyError
    assert torch.equal(torch.rand(3), expected)
    assert model.training and not model.net.training and torch.is_grad_enabled()
    assert 0.02 <= model.eval_seconds < 5
