"""`textflow distill`: which rounds are resumed, and which are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace, dict_to_namespace
from safetensors.torch import load_file

from tests.helpers.distillation import NO_LOGS, distill_argv
from tests.helpers.processes import Commands
from tests.helpers.user_errors import Fails
from textflow.cli import distill
from textflow.cli.app import main
from textflow.cli.resume import check_same_start, lock_run

pytestmark = pytest.mark.integration


def test_rounds_that_share_a_folder_are_refused(teacher: Path, fails: Fails) -> None:
    out = teacher.parent / "shared"
    fails([*distill_argv(teacher, out), "--rounds", "[[2,2],[2,4]]"], "its own number of steps")
    fails([*distill_argv(teacher, out, "flow"), "--rounds", "[[2,1],[1,1]]"], "needs one round")


def test_a_round_is_not_trained_further_after_the_next_one_started_from_it(
    teacher: Path, students: Path, tmp_path: Path, fails: Fails
) -> None:
    out = Path(shutil.copytree(students, tmp_path / "longer"))
    argv = [*distill_argv(teacher, out), *NO_LOGS, "--trainer.max_steps", "7"]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    fails(argv, f"{out / 'steps-2'} started from {out / 'steps-4'} at step 6")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    shutil.rmtree(out / "steps-2")
    assert main(argv) == 0
    assert all((out / name / "state" / "step-00000007").is_dir() for name in ("steps-4", "steps-2"))


def test_a_number_of_steps_below_that_of_a_finished_round_is_refused(
    teacher: Path, students: Path, fails: Fails
) -> None:
    argv = [*distill_argv(teacher, students), *NO_LOGS, "--trainer.max_steps", "3"]
    fails(argv, f"{students / 'steps-4'} is trained to step 6 already, and trainer.max_steps is 3")


def test_finished_rounds_only_record_a_missing_origin(teacher: Path, students: Path, tmp_path: Path) -> None:
    out, moved = (Path(shutil.copytree(run, tmp_path / run.name)) for run in (students, teacher))
    origin, weights = out / "steps-2" / "origin.json", (out / "steps-2" / "model.safetensors").read_bytes()
    record = origin.read_text()
    origin.unlink()
    assert main([argument if argument != str(teacher) else str(moved) for argument in distill_argv(teacher, out)]) == 0
    assert origin.read_text() == record and (out / "steps-2" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(("code", "trained"), [(130, ["steps-4"]), (0, ["steps-4", "steps-2"])])
def test_a_signal_in_a_round_starts_no_other_and_the_record_holds_in_every_folder(
    code: int, trained: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(own: Namespace, *args: object) -> int:
        Path(own.run.folder).mkdir(parents=True)
        fitted.append(Path(own.run.folder).name)
        return code

    fitted: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(distill, "fit_config", fit)
    monkeypatch.setattr(distill, "compare_students", lambda folder: None)
    objective = {"model": {"init_args": {"objective": {"init_args": {}}}}, "trainer": {"max_steps": 2}}
    names = {steps: {"run": {"folder": f"out/steps-{steps}"}} | objective for steps in (4, 2)}
    rounds = [(steps, 2, dict_to_namespace(tree)) for steps, tree in names.items()]
    options = {"teacher": "teacher", "eval_steps": None, "trainer": {"fast_dev_run": False}, "run": {"folder": "out"}}
    assert distill.train_rounds(dict_to_namespace(options), rounds, "title") == code and fitted == trained
    record = tmp_path / "out" / "rounds.json"
    assert record.is_file() == (not code)
    assert code or json.loads(record.read_text())["teacher"] == str(tmp_path / "teacher")


def test_a_round_is_not_resumed_from_other_weights(teacher: Path, students: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(students / "steps-2", tmp_path / "steps-2"))
    sources = {"teacher": teacher, "start": students / "steps-4"}
    record = json.loads((run / "origin.json").read_text())
    check_same_start(run, sources)
    for text, message in (
        (json.dumps(record | {"start": "other"}), "other weights of its start"),
        (json.dumps(record | {"teacher": "other"}), "other weights of its teacher"),
        ("", "origin.json is damaged"),
        ('{"teacher": 3}', "origin.json is damaged"),
        ("[" * 100_000, "origin.json is damaged"),
    ):
        (run / "origin.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            check_same_start(run, sources)


def test_a_second_command_leaves_a_locked_folder_unchanged(teacher: Path, fails: Fails) -> None:
    out = teacher.parent / "locked"
    with lock_run(out / "steps-4"):
        fails(distill_argv(teacher, out), "another `textflow fit` is writing")
    assert [path.name for path in out.rglob("*") if path.is_file()] == [".lock"]


def test_students_can_teach(teacher: Path, students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def argv(run: Path) -> list[str]:
        arguments = distill_argv(teacher, tmp_path / "x")
        return [argument if argument != str(teacher) else str(run) for argument in arguments]

    capsys.readouterr()
    assert main([*argv(students / "steps-2"), "--print_config"]) == 0
    objective = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["objective"]
    assert objective["init_args"]["teacher_objective"]["class_path"].endswith("ELFObjective")


def test_a_run_killed_in_its_second_round_ends_the_same(commands: Commands, teacher: Path, students: Path) -> None:
    out = teacher.parent / "killed"
    argv = [*distill_argv(teacher, out), *NO_LOGS]  # diagnostics change no weight
    state = out / "steps-2" / "state" / "step-00000003"
    assert commands.run(*argv, kill=0, watch=str(state)).code == -9
    assert state.exists() and not (state.parent / "step-00000006").exists()
    assert main(argv) == 0
    expected, resumed = (load_file(folder / "steps-2" / "model.safetensors") for folder in (students, out))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_missing_teacher_is_an_error_in_one_line(teacher: Path, fails: Fails) -> None:
    for argv, message in (
        (["distill", "STUDENTS"], "a recipe and a teacher"),
        (["distill", "STUDENTS", "--teacher", "nowhere"], "nowhere holds no trained run to learn from"),
        (["distill", "STUDENTS", "--teacher=first", "--teacher=last"], "last holds no trained run to learn from"),
        (["fit", "STUDENTS"], "textflow distill"),
    ):
        fails([argument.replace("STUDENTS", str(teacher.parent / "students.yaml")) for argument in argv], message)
