"""`textflow distill` as its user runs it: rounds, stopped and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import textflow
from tests.cli.tiny import recipe
from tests.judge import save_judge
from textflow.cli.app import main
from textflow.cli.distill import compare

STUDENT = """\
# tiny students
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: Distill, init_args: {target: Progressive}}, ema: 0.8}}
run: {save_every: 3, samples_every: 6}
trainer: {max_steps: 6, val_check_interval: 3}
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    assert main(["fit", str(recipe(folder))]) == 0
    (folder / "students.yaml").write_text(STUDENT)
    return folder / "run"


def words(teacher: Path, out: Path) -> list[str]:
    return ["distill", str(teacher.parent / "students.yaml"), "--teacher", str(teacher), "--run.folder", str(out)]


@pytest.fixture(scope="module")
def students(teacher: Path) -> Path:
    assert main(words(teacher, teacher.parent / "students")) == 0
    return teacher.parent / "students"


def test_each_round_is_a_run_that_samples(students: Path) -> None:
    said = json.loads((students / "rounds.json").read_text())
    assert [(r["steps"], r["substeps"], r["run"]) for r in said["rounds"]] == [(4, 2, "steps-4"), (2, 2, "steps-2")]
    for name in ("steps-4", "steps-2"):
        student = textflow.load(students / name)
        assert len(student.generate(n=2, steps=int(name[-1]))) == 2
        assert "val/loss" in (students / name / "metrics.csv").read_text()


def test_a_round_starts_where_the_one_before_ended_and_keeps_the_codec(teacher: Path, students: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, students / "steps-4"))
    codec = [name for name in before if name.startswith("codec.")]
    assert codec and all(torch.equal(before[name], after[name]) for name in codec)
    moved = [float((before[n] - after[n]).norm() / before[n].norm().clamp_min(1e-6)) for n in before if n[:4] == "net."]
    assert max(moved) > 0 and sorted(moved)[len(moved) // 2] < 0.5  # it moved, and not from somewhere else


def test_no_teacher_is_saved_in_a_student(students: Path) -> None:
    names = load_file(students / "steps-2" / "model.safetensors")
    assert not any("teacher" in name or "average" in name for name in names)


def test_the_same_command_does_nothing_more(teacher: Path, students: Path) -> None:
    before = (students / "steps-2" / "model.safetensors").read_bytes()
    assert main(words(teacher, students)) == 0
    assert (students / "steps-2" / "model.safetensors").read_bytes() == before


def test_killed_in_the_second_round_it_ends_with_the_same_weights(teacher: Path, students: Path) -> None:
    out = teacher.parent / "killed"
    command = [sys.executable, "-m", "textflow.cli.app", *words(teacher, out)]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    state = out / "steps-2" / "state"
    end = time.monotonic() + 120
    while not list(state.glob("step-0*")) and job.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert list(state.glob("step-0*"))
    assert main(words(teacher, out)) == 0
    whole, cut = (load_file(folder / "steps-2" / "model.safetensors") for folder in (students, out))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_rounds_are_scored_beside_their_teacher(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_judge(students.parent / "scorer")
    capsys.readouterr()
    compare(students, n=4)
    said = capsys.readouterr().out
    assert all(word in said for word in ("mode commit", "re-injection", "ODE to", "15-38%", "stiffness"))
    scored = json.loads((students / "rounds_scored.json").read_text())
    cells = {(r["steps"], r["who"], r["sampling"]) for r in scored}
    assert len(scored) == len(cells) == 2 * 2 * 3 and all(r["n"] == 4 and r["stiffness"] >= 0 for r in scored)
    assert all(r["cci"] == 0 for r in scored if r["sampling"] != "mode commit")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["distill", "STUDENTS"], "a recipe and a teacher"),
        (["distill", "STUDENTS", "--teacher", "nowhere"], "nowhere holds no trained run to learn from"),
        (["fit", "STUDENTS"], "textflow distill"),
    ],
)
def test_what_is_missing_is_one_line(
    teacher: Path, change: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([word.replace("STUDENTS", str(teacher.parent / "students.yaml")) for word in change]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
