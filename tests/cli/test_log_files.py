"""Diagnostics watch a fit: their curves are kept, and no weight moves."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.wandb_history import history
from textflow.cli.app import main
from textflow.eval.figures.curves import draw_curves

WATCH = """\
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
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("watched")
    plain = str(write_recipe(folder))
    for name, text in (("watch", WATCH), ("commit", COMMIT)):
        (folder / f"{name}.yaml").write_text(text)
    over = [str(folder / "commit.yaml"), str(folder / "watch.yaml")]
    assert main(["fit", plain, over[0], "--run.folder", str(folder / "plain")]) == 0
    assert main(["fit", plain, *over, "--run.folder", str(folder / "watched"), "--run.wandb", "true"]) == 0
    return {"plain": folder / "plain", "watched": folder / "watched"}


def curve(run: Path, name: str) -> dict[int, float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    return {int(step): float(value) for step, key, value in rows if key == name}


@pytest.mark.integration
def test_a_watched_run_has_the_same_weights_to_the_bit(runs: dict[str, Path]) -> None:
    plain, watched = (load_file(run / "model.safetensors") for run in runs.values())
    assert plain.keys() == watched.keys() and all(torch.equal(plain[name], watched[name]) for name in plain)
    a, b = (torch.load(run / "state" / "step-00000012" / "state.pt", weights_only=True) for run in runs.values())
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])


@pytest.mark.integration
def test_every_curve_is_logged_at_its_steps(runs: dict[str, Path]) -> None:
    watched = runs["watched"]
    for name in ("dabi/structured_flip_rate", "dabi/isotropic_ce", "tube/observed", "tube/predicted", "tube/blur"):
        assert list(curve(watched, name)) == [4, 8, 12], name
    assert set(curve(watched, "dabi/ce")) | set(curve(watched, "dabi/ce_at_least")) == {4, 8, 12}
    assert list(curve(watched, "cci/value")) == [6, 12] and list(curve(watched, "stiffness/peak")) == [12]
    assert all(0 <= value <= 1 for name in ("cci/value", "tube/observed") for value in curve(watched, name).values())
    assert curve(watched, "cci/value")[12] > 0 and curve(watched, "stiffness/total")[12] > 0
    assert not curve(runs["plain"], "cci/value")


@pytest.mark.integration
def test_margins_rollin_rowspace_and_decoder_temperature_are_logged_too(runs: dict[str, Path]) -> None:
    watched = runs["watched"]
    shares = (
        "margins/agreement",
        "margins/settled_time",
        "rollin/terminal",
        "rollin/cumulative",
        "rollin/bayes_error",
        "rowspace/energy_fraction",
    )
    for name in shares:
        assert list(curve(watched, name)) == [6, 12], name
        assert all(0 <= value <= 1 for value in curve(watched, name).values()), name
    assert curve(watched, "margins/mean")[12] >= curve(watched, "margins/p10")[12] >= 0
    flips = [curve(watched, f"decoder_temperature/flips_{name}") for name in ("unchanged", "hot", "uniform_mix")]
    assert flips[0] == flips[1] == flips[2] and list(flips[0]) == [6, 12], "a temperature moves no flip"


@pytest.mark.integration
def test_wandb_keeps_the_same_curves(runs: dict[str, Path]) -> None:
    (file,) = (runs["watched"] / "wandb").glob("offline-run-*/*.wandb")
    found: dict[str, dict[int, float]] = {}
    for items in history(file):
        for name, value in items.items():
            if name.startswith(("dabi", "cci", "tube", "stiffness")):
                found.setdefault(name, {})[int(items["trainer/global_step"])] = float(value)
    for name in ("dabi/structured_flip_rate", "tube/observed", "cci/value", "stiffness/peak"):
        assert found[name] == pytest.approx(curve(runs["watched"], name)), name


@pytest.mark.integration
def test_diagnose_prints_keeps_and_draws(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = runs["watched"]
    capsys.readouterr()
    assert (
        main(["diagnose", str(run), "--measures", "dabi,rollin,cci,decoder_temperature", "-n", "4", "--device", "cpu"])
        == 0
    )
    said = capsys.readouterr().out
    assert "[ours]" in said and "mode commit" in said and "temperature" in said
    names = {path.name for path in (run / "diagnostics").iterdir()}
    assert {"diagnose.json", "dabi.png", "dabi.svg", "rollin.png"} <= names


@pytest.mark.integration
def test_curves_of_a_damaged_log_say_what_they_leave_out(runs: dict[str, Path], tmp_path: Path) -> None:
    log = (runs["watched"] / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text(log + "12,dabi/ce,wor\n1")
    assert draw_curves(tmp_path / "metrics.csv", tmp_path / "curves")
    said = " ".join(re.findall("<!-- (.*?) -->", (tmp_path / "curves.svg").read_text()))
    assert "2 of" in said and "lines hold no number and are left out" in said


def test_an_unknown_measure_or_no_subject_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--oracle", "chain", "--measures", "dabbi"]) == 2
    assert "no measure 'dabbi'; there are dabi, tube" in capsys.readouterr().err
    assert main(["diagnose"]) == 2
    assert "a run or an oracle task" in capsys.readouterr().err
