"""Interrupts: Ctrl-C and SIGTERM save and stop a run."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from torch import Tensor, nn

from tests.helpers.bitwise import is_same
from tests.helpers.toy_run import LENGTH, Toy, fit, send_signal
from textflow.training import latest_state
from textflow.training.interrupt import Interrupt, StopRequested
from textflow.types import Batch

pytestmark = pytest.mark.integration  # fits runs


def test_sigterm_saves_stops_and_restores_the_signal_handlers(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    _, fitter = fit(tmp_path, 12, Toy(after=send_signal(signal.SIGTERM, at=5, times=2)))
    assert fitter.global_step == 5 and fitter.checkpoint_callback.stopped  # type: ignore[union-attr]
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000005" / "state.pt"
    assert "5,val/loss" not in (tmp_path / "metrics.csv").read_text()  # no validation that delays the stop
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP"])
def test_every_signal_that_announces_the_end_of_a_job_saves_and_stops(name: str, tmp_path: Path) -> None:
    _, fitter = fit(tmp_path, 12, Toy(after=send_signal(getattr(signal, name), at=5, times=2)))
    assert fitter.global_step == 5 and latest_state(tmp_path) == tmp_path / "state" / "step-00000005" / "state.pt"


def test_slurms_requeue_signal_writes_no_state_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"NTASKS": "1", "JOB_NAME": "textflow", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    options = {"plugins": [SLURMEnvironment()], "default_root_dir": tmp_path}
    _, fitter = fit(tmp_path, 12, Toy(after=send_signal(signal.SIGUSR1, at=5)), **options)
    assert fitter.global_step == 5 and latest_state(tmp_path) and not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_signal_that_the_process_ignores_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        _, fitter = fit(tmp_path, 6, Toy(after=send_signal(signal.SIGHUP, at=5)))
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert fitter.global_step == 6


def test_a_training_whose_output_has_no_reader_saves_and_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", fail)
    _, fitter = fit(tmp_path, 12, bar=0.0)
    assert fitter.global_step < 5 and fitter.checkpoint_callback.stopped  # type: ignore[union-attr]
    assert latest_state(tmp_path) == tmp_path / "state" / f"step-{fitter.global_step:08d}" / "state.pt"


class Watched(Toy):
    """A toy that sends SIGTERM in its first validation batch or its first samples, and counts these calls."""

    def __init__(self, during: str) -> None:
        super().__init__()
        self.during, self.calls = during, 0

    def watch(self, during: str) -> None:
        if self.during == during:
            self.calls += 1
            if self.calls == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        if net is self.ema_net:
            self.watch("validation")
        return super().losses(net, batch)

    def sample_texts(self, n: int) -> list[str]:
        for _ in range(100):
            self.watch("sampling")
            self.ema_net(torch.zeros(4, LENGTH, dtype=torch.long))
        return super().sample_texts(n)


def test_sigterm_in_a_validation_saves_at_its_next_batch(tmp_path: Path) -> None:
    model = Watched("validation")
    with pytest.raises(StopRequested, match="validation of step 3"):
        fit(tmp_path, 6, model)
    assert model.calls == 1 and latest_state(tmp_path) == tmp_path / "state" / "step-00000003" / "state.pt"
    assert "3,val/loss" not in (tmp_path / "metrics.csv").read_text()
    resumed, _ = fit(tmp_path, 6)
    whole, _ = fit(tmp_path / "whole", 6)
    assert is_same(resumed.state_dict(), whole.state_dict())


def test_sigterm_in_the_samples_of_a_training_saves_at_the_next_network_call(tmp_path: Path) -> None:
    model = Watched("sampling")
    _, fitter = fit(tmp_path, 12, model)
    assert (model.calls, fitter.global_step) == (1, 5) and latest_state(tmp_path) is not None
    assert not (tmp_path / "samples").exists()


def test_ctrl_c_between_accumulated_batches_waits_for_the_step(tmp_path: Path) -> None:
    toy = Toy(after=send_signal(signal.SIGINT, at=4))
    model, fitter = fit(tmp_path, 12, toy, accumulate_grad_batches=3, min_steps=12)
    assert len(model.train_losses) == 6 and fitter.global_step == 2
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000002"]


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, 12, Toy(after=send_signal(signal.SIGINT, at=6, times=2)))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000004"]


def test_an_interrupt_without_handlers_raises_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        Interrupt("requested")(signal.SIGINT, None)
