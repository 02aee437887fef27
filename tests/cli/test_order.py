"""textflow order: groups of positions of a run, and texts that are drawn group by group."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.tiny_recipe import LANGFLOW, write_model
from textflow.cli.app import main

pytestmark = pytest.mark.integration


def test_an_order_is_written_as_an_overlay_that_samples_and_evaluates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(write_model(tmp_path, LANGFLOW, max_steps=2))]) == 0
    run = tmp_path / "run"
    options = ["--groups", "3", "-n", "4", "--restarts", "1"]
    assert main(["order", str(run), *options]) == 0
    shown = capsys.readouterr()
    assert "nats per text" in shown.out and f"textflow sample {run} {run}/order-3.yaml --steps 1" in shown.out
    overlay = yaml.safe_load((run / "order-3.yaml").read_text())["model"]
    assert set(overlay["order"]["init_args"]["groups"]) == {0, 1, 2} and overlay["sampling_schedule"] is None
    assert main(["sample", str(run), str(run / "order-3.yaml"), "--steps", "1", "-n", "2"]) == 0
    assert "[1]" in capsys.readouterr().out
    assert main(["order", str(run), "--groups", "0"]) == 2
    assert "groups" in capsys.readouterr().err


def test_a_run_whose_readout_draws_no_tokens_has_no_order(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["order", str(trained_run), "-n", "4", "--out", str(tmp_path / "order.yaml")]) == 2
    assert "draws no tokens; train with FromPosterior" in capsys.readouterr().err
    assert not (tmp_path / "order.yaml").exists()
