"""Diagnostics during a fit: their curves are logged, and they change no weight."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails
from tests.helpers.wandb_history import history
from textflow.cli.app import main
from textflow.cli.measures import format_cell
from textflow.eval.figures.curves import draw_curves

pytestmark = pytest.mark.integration

DIAGNOSTICS = """\
trainer:
  callbacks:
    - {class_path: DABI, init_args: {every_n_steps: 4, num_rows: 4, num_steps: 4, num_draws: 2}}
    - {class_path: Tube, init_args: {every_n_steps: 4, num_rows: 4, num_steps: 4, num_candidates: 3}}
    - {class_path: CCI, init_args: {every_n_steps: 6, num_rows: 3, num_steps: 3}}
    - {class_path: Stiffness, init_args: {every_n_steps: 12, num_rows: 1, num_steps: 2, num_iterations: 2}}
    - {class_path: Margins, init_args: {every_n_steps: 6, num_rows: 3, num_steps: 4}}
    - {class_path: RollIn, init_args: {every_n_steps: 6, num_rows: 4, num_steps: 3}}
    - {class_path: RowSpace, init_args: {every_n_steps: 6, num_rows: 4, num_steps: 3}}
    - {class_path: DecoderTemperature, init_args: {every_n_steps: 6, num_rows: 4, num_steps: 3, num_draws: 2}}
"""
COMMIT = "model: {init_args: {escape: Commit, sampler: Ancestral}}\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("diagnosed")
    for name, text in (("diagnostics", DIAGNOSTICS), ("commit", COMMIT)):
        (folder / f"{name}.yaml").write_text(text)
    plain, diagnosed = folder / "plain", folder / "diagnosed"
    argv, codec = ["fit", str(write_recipe(folder)), str(folder / "commit.yaml")], str(trained_run / "codec")
    assert main([*argv, "--codec", codec, "--run.folder", str(plain)]) == 0
    options = ["--codec", codec, "--run.folder", str(diagnosed), "--run.wandb", "true"]
    assert main([*argv, str(folder / "diagnostics.yaml"), *options]) == 0
    return {"plain": plain, "diagnosed": diagnosed}


def curve(run: Path, name: str) -> dict[int, float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return {int(step): float(value) for step, key, value in rows if key == name}


def test_a_diagnosed_run_has_the_same_weights_to_the_bit(runs: dict[str, Path]) -> None:
    plain, diagnosed = (load_file(run / "model.safetensors") for run in runs.values())
    assert plain.keys() == diagnosed.keys() and all(torch.equal(plain[name], diagnosed[name]) for name in plain)
    a, b = (torch.load(run / "state" / "step-00000012" / "state.pt", weights_only=True) for run in runs.values())
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])


def test_every_curve_is_logged_at_its_steps(runs: dict[str, Path]) -> None:
    diagnosed = runs["diagnosed"]
    for name in ("dabi/structured_flip_rate", "dabi/isotropic_ce", "tube/observed", "tube/predicted", "tube/blur"):
        assert list(curve(diagnosed, name)) == [4, 8, 12], name
    assert set(curve(diagnosed, "dabi/ce")) | set(curve(diagnosed, "dabi/ce_at_least")) == {4, 8, 12}
    assert list(curve(diagnosed, "cci/value")) == [6, 12] and list(curve(diagnosed, "stiffness/peak")) == [12]
    assert all(0 <= value <= 1 for name in ("cci/value", "tube/observed") for value in curve(diagnosed, name).values())
    assert curve(diagnosed, "cci/value")[12] > 0 and curve(diagnosed, "stiffness/total")[12] > 0
    assert not curve(runs["plain"], "cci/value")


FRACTIONS = ("margins/agreement", "margins/settled_time", "rollin/terminal", "rollin/cumulative", "rollin/bayes_error")


def test_margins_rollin_rowspace_and_decoder_temperature_are_logged_too(runs: dict[str, Path]) -> None:
    run = runs["diagnosed"]
    for name in (*FRACTIONS, "rowspace/energy_fraction"):
        assert list(curve(run, name)) == [6, 12] and all(0 <= value <= 1 for value in curve(run, name).values()), name
    assert curve(run, "margins/mean")[12] >= curve(run, "margins/p10")[12] >= 0
    flips = [curve(run, f"decoder_temperature/flips_{name}") for name in ("unchanged", "hot", "uniform_mix")]
    assert flips[0] == flips[1] == flips[2] and list(flips[0]) == [6, 12], "a temperature changes no flip"


def test_wandb_holds_the_same_curves(runs: dict[str, Path]) -> None:
    (file,) = (runs["diagnosed"] / "wandb").glob("offline-run-*/*.wandb")
    rows = list(history(file))
    for name in ("dabi/structured_flip_rate", "tube/observed", "cci/value", "stiffness/peak"):
        logged = {int(row["trainer/global_step"]): float(row[name]) for row in rows if name in row}
        assert logged == pytest.approx(curve(runs["diagnosed"], name)), name


def test_diagnose_prints_tables_and_writes_figures(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, measures = runs["diagnosed"], "dabi,controls,rollin,cci,decoder_temperature"
    capsys.readouterr()
    assert main(["diagnose", str(run), "--measures", measures, "-n", "4", "--device", "cpu"]) == 0
    output = capsys.readouterr().out
    assert (
        "[ours]" in output and "mode commit" in output and "temperature" in output and "empirical posterior" in output
    )
    names = {path.name for path in (run / "diagnostics").iterdir()}
    assert {"diagnose.json", "dabi.png", "dabi.svg", "rollin.png"} <= names


def test_curves_of_a_damaged_log_count_the_lines_left_out(runs: dict[str, Path], tmp_path: Path) -> None:
    log = (runs["diagnosed"] / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text(log + "12,dabi/ce,wor\n1")
    assert draw_curves(tmp_path / "metrics.csv", tmp_path / "curves")
    message = " ".join(re.findall("<!-- (.*?) -->", (tmp_path / "curves.svg").read_text()))
    assert "2 of" in message and "lines hold no number and are left out" in message


def test_an_unknown_measure_is_named(fails: Fails) -> None:
    fails(["diagnose", "--oracle", "chain", "--measures", "dabbi"], "no measure 'dabbi'; there are dabi, controls")


def test_a_ratio_without_a_value_is_shown_at_the_floor() -> None:
    row = {"flip": None, "flip_low": 2.0, "flip_high": None, "ce": 3.0, "ce_low": 2.5, "ce_high": 3.5}
    assert format_cell(row, "flip") == "at the floor (>= 2)" and format_cell(row, "ce") == "3 [2.5, 3.5]"
