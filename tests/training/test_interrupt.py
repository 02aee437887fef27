"""Interrupts: Ctrl-C and SIGTERM save and stop a run."""

import signal
from pathlib import Path

import pytest

from tests.helpers.toy_run import Toy, fit, send_signal
from textflow.training import latest_state
from textflow.training.interrupt import Interrupt

pytestmark = pytest.mark.integration  # fits runs


def test_sigterm_saves_stops_and_restores_the_signal_handlers(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    _, fitter = fit(tmp_path, 12, Toy(after=send_signal(signal.SIGTERM, at=5, times=2)))
    assert fitter.global_step == 5 and fitter.checkpoint_callback.stopped  # type: ignore[union-attr]
    assert latest_state(tmp_path) == tmp_path / "state" / "step-00000005" / "state.pt"
    assert "5,val/loss" not in (tmp_path / "metrics.csv").read_text()  # no validation that delays the stop
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


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
