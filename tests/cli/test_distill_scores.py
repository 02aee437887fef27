"""`textflow distill` and `textflow compare`: scores of students and their teacher."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import textflow
from tests.helpers.distillation import distill_argv
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import Fails
from textflow.cli import distill
from textflow.cli.app import main
from textflow.cli.distill import compare_students
from textflow.diagnostics.sample_callbacks import generator_stiffness
from textflow.eval.distillation import measure
from textflow.eval.measure import evaluate

pytestmark = pytest.mark.integration
FIXED = {"scorer_hash": "ab", "scorer_dtype": "float32", "token_weighting": "local", "n": 4, "seed": 0, "nfe": 3.0}
STUDENT_ROW = {"role": "student", "sampler_name": "ODE", "steps": 2, "entropy": 3.0, "nll_minus_entropy": 1.0}


def row(**changes: Any) -> dict[str, Any]:
    return FIXED | STUDENT_ROW | changes


@pytest.fixture(autouse=True)
def rough_stiffness(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration for each stiffness in place of four."""
    measured = lambda *args, **options: generator_stiffness(*args, **options | {"num_iterations": 1})  # noqa: E731
    monkeypatch.setattr(measure, "generator_stiffness", measured)


def test_students_are_scored_with_their_teacher_and_an_incomplete_file_is_resumed(
    students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    students = Path(shutil.copytree(students, tmp_path / "students"))
    save_scorer(tmp_path / "scorer")
    capsys.readouterr()
    compare_students(students, n=4)
    output = capsys.readouterr().out
    assert all(text in output for text in ("mode commit", "re-injection", "ODE to", "15-38%", "stiffness"))
    assert "Students against their teacher" in output and "Targets other" not in output
    records = json.loads((students / "rounds_scored.json").read_text())
    assert all(("dabi_ce" in r) != ("dabi_ce_at_least" in r) for r in records), "each grid has a last time"
    points = {(r["steps"], r["role"], r["sampler_name"]) for r in records}
    assert len(records) == len(points) == 2 * 2 * 3 and all(r["n"] == 4 and r["stiffness"] >= 0 for r in records)
    assert all(r["cci"] == 0 for r in records if r["sampler_name"] != "mode commit")

    steps: list[int] = []
    monkeypatch.setattr(measure, "evaluate", lambda *args: steps.append(args[2][0]) or evaluate(*args))
    other = records[10] | {"checkpoint_hash": "other"}
    (students / "rounds_scored.json").write_text(json.dumps(records[:10] + [other]))
    compare_students(students, n=4)
    assert steps == [r["steps"] for r in records[10:]], "only missing rows and those of other weights are measured"
    resumed = json.loads((students / "rounds_scored.json").read_text())
    assert [r["perplexity"] for r in resumed] == [r["perplexity"] for r in records]


@pytest.mark.slow
def test_a_flow_map_is_one_run_for_all_steps(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "flow"
    save_scorer(tmp_path / "scorer")
    monkeypatch.setattr(distill, "compare_students", partial(compare_students, n=4))
    capsys.readouterr()
    assert main(distill_argv(teacher, out, "flow")) == 0
    assert "Reduction of perplexity" in (output := capsys.readouterr().out) and "recipe's" in output
    student = textflow.load(out / "all-steps")
    assert student.ema_net.end_t_embed is not None and len(student.generate(num_samples=2, num_steps=3)) == 2
    records = json.loads((out / "rounds_scored.json").read_text())
    runs_of_roles = (("teacher", "run"), ("student", "all-steps"))
    expected = {(steps, *role) for steps in (2, 1) for role in runs_of_roles}
    assert {(r["steps"], r["role"], r["run"]) for r in records} == expected
    assert {r["sampler_name"] for r in records} == {"ODE", "re-injection", "mode commit", "recipe's"}


def test_compare_prints_one_table_for_a_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Fails
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    teacher_row = row(role="teacher", perplexity=90.0, nll_minus_entropy=1.5)
    better = [row(perplexity=40.0, nll_minus_entropy=0.7), row(perplexity=30.0, steps=4, nfe=5.0)]
    for folder, rows in (
        (one, [teacher_row, row(perplexity=50.0, nll_minus_entropy=0.9)]),
        (two, [*better, row(perplexity=None, nll_minus_entropy=None, steps=8)]),
    ):
        folder.mkdir()
        (folder / "rounds.json").write_text("{}")
        (folder / "rounds_scored.json").write_text(json.dumps(rows))
    assert main(["compare", str(one), str(two)]) == 0
    lines = {" ".join(line.split()) for line in capsys.readouterr().out.splitlines()}
    assert {"teacher ODE 90 / 3.00 (3)", "one ODE 50 / 3.00 (3)"} < lines
    assert "two ODE no text 30 / 3.00 (5) * 40 / 3.00 (3) *" in lines
    (two / "rounds_scored.json").write_text(json.dumps([teacher_row | {"checkpoint_hash": "other"}]))
    fails(["compare", str(one), str(two)], "teacher differs")
    (two / "rounds_scored.json").unlink()
    fails(["compare", str(one), str(two)], "are not scored")
