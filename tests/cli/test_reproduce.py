"""`textflow reproduce`: figures and the ranking, measured in small sizes (seconds, hence integration)."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.user_errors import refused
from textflow.cli import decoders, figure_inputs
from textflow.cli import reproduce as module
from textflow.cli.reproduce import FIGURES, reproduce, write_record
from textflow.eval.figures import fig2, fig5, fig7, fig8, fig9
from textflow.eval.figures.source import oracle_input
from textflow.eval.oracle import benchmark
from textflow.eval.oracle.benchmark import RankingConfig
from textflow.eval.oracle.methods import COMPARED_METHODS, METHODS_BY_NAME, MODE_METHODS, fresh_seed
from textflow.eval.results import load_record
from textflow.oracle.tasks import chain_task


@pytest.fixture
def few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compared methods, and three of the others."""
    names = (*COMPARED_METHODS, "joint readout (zero line)", "masked, dilated", "tube commit, staggered")
    monkeypatch.setattr(benchmark, "METHODS", [METHODS_BY_NAME[name] for name in names])


def draw_nothing(monkeypatch: pytest.MonkeyPatch, *figures: Any) -> None:
    """Measure and record figures without drawing them, which takes most of their time."""
    for figure in figures:
        monkeypatch.setattr(figure, "draw", lambda numbers, path: None)


@pytest.mark.integration
def test_a_figure_is_written_as_png_svg_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("fig5", out=tmp_path, n=16)
    assert {path.name for path in tmp_path.iterdir()} == {"fig5.json", "fig5.png", "fig5.svg"}
    record = json.loads((tmp_path / "fig5.json").read_text())
    assert record["figure"] == "fig5" and record["n"] == 16 and record["seed"] == 0 and record["textflow"]
    assert record["published"]["slope of missed mass over stiffness"] == [-0.97, -0.9]
    assert record["slopes"]["3"] == pytest.approx(-0.971, abs=2e-3)
    message = capsys.readouterr().out
    assert record["caption"] in message and "[rebuilt]" in message and f"{tmp_path / 'fig5'}.png" in message


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("few_methods")
def test_the_ranking_prints_every_measure_and_the_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("escapes", out=tmp_path, n=16, bootstrap_samples=2, quick=True)
    message = capsys.readouterr().out
    for verb_name in ("xKL3", "xKL2", "dNLL", "dH1", "transitions", "joint readout", "masked, dilated", "staggered"):
        assert verb_name in message, verb_name
    assert message.count("Needed: 3, 2 and |dH1| <= 0.05") == 5 and "±" in message
    record = json.loads((tmp_path / "escapes.json").read_text())
    assert record["tasks_per_kind"] == 1 and record["nfe_values"] == [2, 4, 8] and record["n"] == 16
    assert {row["task"] for row in record["records"]} == {"chain"} and len(record["records"]) == len(record["means"])
    assert record["verdicts"]["mode commit"]["commit"]["method"] == "mode commit"
    forms = {name: each["commit"]["xkl3"] for name, each in record["verdicts"].items() if name in MODE_METHODS}
    assert record["verdicts"]["mode commit in its best form"]["commit"]["xkl3"] == min(forms.values())
    assert all(key in record["means"][0] for key in ("xkl3", "xkl3_side", "xkl2", "dnll", "dh1", "illegal", "n"))


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("few_methods")
def test_the_verdict_uses_more_tasks_than_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    results = module.run_ranking(RankingConfig(["chain"], 1, 2, [4], 16, 0, 2, with_corruptions=False), console)
    verdict_records = results["verdict_records"]
    assert {row["task_seed"] for row in results["records"]} == {fresh_seed(0)}
    assert {row["task_seed"] for row in verdict_records["records"]} == {fresh_seed(0), fresh_seed(0) + 1}
    assert {row["method"] for row in verdict_records["means"]} == set(COMPARED_METHODS) and results["verdicts"][
        "mode commit"
    ]["num_tasks"] == 2
    assert all("xkl3_side" in row for row in verdict_records["means"])
    shared = [row for row in verdict_records["records"] if row["task_seed"] == fresh_seed(0)]
    tabled = {(row["grid"], row["method"]): row["xkl3"] for row in results["records"]}
    assert all(row["xkl3"] == tabled[row["grid"], row["method"]] for row in shared)
    message = console.file.getvalue()  # type: ignore[attr-defined]
    assert message.count("mean of 2 tasks, ± over tasks") == 2 and "K = 4, mean of 2 tasks, mode commit" in message
    monkeypatch.setattr(benchmark, "METHODS", benchmark.METHODS[:2])
    assert "verdict_records" not in module.run_ranking(
        RankingConfig(["chain"], 1, 2, [2], 16, 0, 0, with_corruptions=False), console
    )


@pytest.mark.integration
def test_numbers_depend_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig9, "STRENGTHS", (1.5,))
    draw_nothing(monkeypatch, fig9)
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        reproduce("fig9", out=tmp_path / folder, n=16, seed=seed)
    outputs = [json.loads((tmp_path / folder / "fig9.json").read_text())["exact"]["rows"] for folder in "abc"]
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.integration
def test_a_run_is_drawn_with_the_oracle_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[Any] = []

    def of_run(run: Path, *rest: Any) -> Any:
        requested.append(run)
        source = oracle_input(chain_task(3), 16)
        return source.model, source.batches, {}

    monkeypatch.setattr(figure_inputs, "load_run", of_run)
    draw_nothing(monkeypatch, fig2, fig5)
    reproduce("fig2", run=Path("checkpoints/mine"), out=tmp_path, n=16)
    assert requested == [Path("checkpoints/mine")]
    assert set(json.loads((tmp_path / "fig2.json").read_text())["sweep"]) == {"world text", "run mine"}
    reproduce("fig5", run=Path("checkpoints/mine"), out=tmp_path, n=16)
    assert len(requested) == 1, "fig5 has nothing to do with a run"


def fake_decoder(name: str) -> dict[str, Any]:
    ratios = {f"DABI_{control}{end}": 2.0 for control in fig7.CONTROLS for end in ("", "_low", "_high")}
    row = (
        {"error": "empirical posterior", "sd": 1.0, "flips": 0.2, "n": 10} | dict.fromkeys(fig7.CONTROLS, 0.1) | ratios
    )
    about = {"name": name, "label": name, "family": "continuous text", "cci": 0.0, "unit": "flips", "weights": "a 1.0"}
    return about | {"rows": [row], "n": 4}


def test_two_figures_share_decoders_that_are_measured_once_and_a_missing_one_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def measure() -> dict[str, Any]:
        measured.append(1)
        return fake_decoder("codec")

    def missing() -> dict[str, Any]:
        raise ValueError("no weights.tar in checkpoints/eye: textflow fetch eye")

    monkeypatch.setattr(decoders, "tasks", lambda *_: [("codec", "a 1.0", measure), ("eye", "b 1.0", missing)])
    oracle = {"rows": [{"method": "autoregressive", "nll": 1.0, "ablated_nll": 5.0}]}
    monkeypatch.setattr(fig8, "compute", lambda n, seed, inputs, decoders: oracle | {"decoders": list(decoders)})
    draw_nothing(monkeypatch, fig7, fig8)
    for _ in range(2):
        reproduce("fig7", [Path("fig8")], out=tmp_path, n=16)
    message = capsys.readouterr().out
    assert len(measured) == 1 and "left out: eye: no weights.tar" in message and "textflow fetch eye" in message
    assert "holds: DABI of continuous text is above 1 (isotropic control): codec 2.0 [2.0, 2.0]" in message
    assert "holds: autoregressive generation collapses" in message
    kept = [json.loads((tmp_path / f"{name}.json").read_text())["decoders"] for name in ("fig7", "fig8")]
    assert kept[0] == kept[1] and kept[0][0]["name"] == "codec"
    table = load_record(tmp_path / "decoders.yaml").tables
    assert table["decoders"].rows["codec_0"]["dabi_covariance"] == "2.00 [2.00, 2.00]"
    reproduce("fig7", out=tmp_path, n=16, seed=1)
    assert len(measured) == 2, "another seed is another measurement"


def test_figures_and_runs_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    refused("fig8 was named beside all", reproduce, "all", [Path("fig8")])
    refused("fig2 takes one run, as an option", reproduce, "fig2", [Path("mine")])
    refused("no trained run at .*mine", reproduce, "fig7", [tmp_path / "mine"], n=16)


def test_impossible_sizes_are_refused_and_every_figure_has_its_file() -> None:
    refused("n >= 16", reproduce, "fig5", n=8)
    refused("--tasks-per-kind 0.*tasks and jobs >= 1", reproduce, "escapes", tasks_per_kind=0)
    folder = Path(module.__file__).parents[1] / "eval" / "figures"
    assert all((folder / f"{name}.py").is_file() for name in FIGURES)


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    write_record(tmp_path / "deep" / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    record = json.loads((tmp_path / "deep" / "x.json").read_text())
    assert record["a"] is None and record["b"] == [None, 1.5]
