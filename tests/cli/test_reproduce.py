"""The verb: what it writes, what it says, and what it refuses."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from textflow.cli import reproduce as module
from textflow.cli.reproduce import FIGURES, reproduce, write_record
from textflow.eval.figures import fig9
from textflow.eval.figures.source import oracle_input
from textflow.eval.oracle.benchmark import RankingConfig
from textflow.eval.oracle.methods import COMPARED_METHODS, MODE_METHODS, fresh_seed
from textflow.oracle.worlds import chain_task


def test_a_figure_leaves_picture_drawing_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("fig5", out=tmp_path, n=16)
    assert {path.name for path in tmp_path.iterdir()} == {"fig5.json", "fig5.png", "fig5.svg"}
    record = json.loads((tmp_path / "fig5.json").read_text())
    assert record["figure"] == "fig5" and record["n"] == 16 and record["seed"] == 0 and record["textflow"]
    assert record["published"]["slope of missed mass over stiffness"] == [-0.97, -0.9]
    assert record["slopes"]["3"] == pytest.approx(-0.971, abs=2e-3)
    said = capsys.readouterr().out
    assert record["caption"] in said and "[rebuilt]" in said and f"{tmp_path / 'fig5'}.png" in said


def test_the_ranking_prints_every_measure_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce("escapes", out=tmp_path, n=16, bootstrap_samples=2, quick=True)
    said = capsys.readouterr().out
    for word in ("xKL3", "xKL2", "dNLL", "dH1", "transitions", "joint readout", "masked, dilated", "staggered"):
        assert word in said, word
    assert said.count("Needed: 3, 2 and |dH1| <= 0.05") == 5 and "±" in said
    record = json.loads((tmp_path / "escapes.json").read_text())
    assert record["tasks_per_kind"] == 1 and record["nfe_values"] == [2, 4, 8] and record["n"] == 16
    assert {row["task"] for row in record["records"]} == {"chain"} and len(record["records"]) == len(record["means"])
    assert record["verdicts"]["mode commit"]["commit"]["method"] == "mode commit"
    forms = {name: each["commit"]["xkl3"] for name, each in record["verdicts"].items() if name in MODE_METHODS}
    assert record["verdicts"]["mode commit in its best form"]["commit"]["xkl3"] == min(forms.values())
    assert all(key in record["means"][0] for key in ("xkl3", "xkl3_side", "xkl2", "dnll", "dh1", "illegal", "n"))


def test_the_verdict_is_about_more_worlds_than_the_tables() -> None:
    quiet = Console(file=io.StringIO())
    found = module.run_ranking(RankingConfig(["chain"], 1, 2, [4], 16, 0, 2, with_corruptions=False), quiet)
    behind = found["verdict_records"]
    assert {row["task_seed"] for row in found["records"]} == {fresh_seed(0)}
    assert {row["task_seed"] for row in behind["records"]} == {fresh_seed(0), fresh_seed(0) + 1}
    assert {row["method"] for row in behind["means"]} == set(COMPARED_METHODS) and found["verdicts"]["mode commit"][
        "num_tasks"
    ] == 2
    assert all("xkl3_side" in row for row in behind["means"])
    shared = [row for row in behind["records"] if row["task_seed"] == fresh_seed(0)]
    tabled = {(row["grid"], row["method"]): row["xkl3"] for row in found["records"]}
    assert all(row["xkl3"] == tabled[row["grid"], row["method"]] for row in shared)
    said = quiet.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("mean of 2 tasks, ± over tasks") == 2 and "K = 4, mean of 2 tasks, mode commit" in said
    assert "verdict_records" not in module.run_ranking(
        RankingConfig(["chain"], 1, 2, [2], 16, 0, 0, with_corruptions=False), quiet
    )


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fig9, "STRENGTHS", (0.0, 1.5))
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        reproduce("fig9", out=tmp_path / folder, n=16, seed=seed)
    made = [json.loads((tmp_path / folder / "fig9.json").read_text())["exact"]["rows"] for folder in "abc"]
    assert made[0] == made[1] != made[2]


def test_a_run_stands_beside_the_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def of_run(run: Path, *rest: Any) -> Any:
        asked.append(run)
        source = oracle_input(chain_task(3), 16)
        return source.model, source.batches, {}

    monkeypatch.setattr(module, "load_run", of_run)
    reproduce("fig2", run=Path("checkpoints/mine"), out=tmp_path, n=16)
    assert asked == [Path("checkpoints/mine")]
    assert set(json.loads((tmp_path / "fig2.json").read_text())["sweep"]) == {"world text", "run mine"}
    reproduce("fig5", run=Path("checkpoints/mine"), out=tmp_path, n=16)
    assert len(asked) == 1, "fig5 has nothing to do with a run"


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="n >= 16"):
        reproduce("fig5", n=8)
    with pytest.raises(ValueError, match="--tasks-per-kind 0.*tasks and jobs >= 1"):
        reproduce("escapes", tasks_per_kind=0)


def test_every_figure_has_its_file() -> None:
    folder = Path(module.__file__).parents[1] / "eval" / "figures"
    assert all((folder / f"{name}.py").is_file() for name in FIGURES)


def test_numbers_that_json_does_not_know_become_none(tmp_path: Path) -> None:
    write_record(tmp_path / "deep" / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    record = json.loads((tmp_path / "deep" / "x.json").read_text())
    assert record["a"] is None and record["b"] == [None, 1.5]
