"""`textflow distill` as its user runs it: rounds, stopped and continued."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import textflow
from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import save_judge
from tests.helpers.wandb_history import runs
from textflow.cli.app import main
from textflow.cli.distill import compare_students
from textflow.cli.resume import lock_run
from textflow.eval.distillation import measure
from textflow.eval.distillation.measure import target_errors
from textflow.eval.measure import evaluate
from textflow.eval.protocol import run_recipe as read
from textflow.eval.protocol import validation_batch
from textflow.nets import ELF

pytestmark = pytest.mark.integration

STUDENT = """\
# tiny students
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}, ema_decay: 0.8}}
run: {save_every: 3, sample_every: 6, wandb: true}
trainer:
  max_steps: 6
  val_check_interval: 3
  callbacks:
    - {class_path: DABI, init_args: {every_n_steps: 3, num_rows: 4, num_draws: 2}}
    - {class_path: CCI, init_args: {every_n_steps: 3, num_rows: 2}}
    - {class_path: Stiffness, init_args: {every_n_steps: 6, num_iterations: 2}}
"""
FLOW = """\
# tiny flow map
rounds: [[4, 1]]
eval_steps: [2, 1]
model:
  init_args:
    net: {init_args: {two_time: true}}
    objective: {class_path: FlowMapDistillation, init_args: {target: MeanFlow}}
    sampler: {class_path: Ancestral, init_args: {noise_correlation: 0.0}}
run: {save_every: 3, sample_every: 6}
trainer: {max_steps: 6, val_check_interval: 3}
"""
AWARE = {
    "commit_gate": "Everywhere",
    "logit_adjustment": "0.2",
    "target.gamma": "1.5",
    "teacher_precision": "bf16",
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    assert main(["fit", str(write_recipe(folder))]) == 0
    (folder / "students.yaml").write_text(STUDENT)
    (folder / "flow.yaml").write_text(FLOW)
    return folder / "run"


def words(teacher: Path, out: Path, recipe: str = "students") -> list[str]:
    return ["distill", str(teacher.parent / f"{recipe}.yaml"), "--teacher", str(teacher), "--run.folder", str(out)]


@pytest.fixture(scope="module")
def students(teacher: Path) -> Path:
    assert main(words(teacher, teacher.parent / "students")) == 0
    return teacher.parent / "students"


def test_each_round_is_a_run_that_samples(students: Path) -> None:
    said = json.loads((students / "rounds.json").read_text())
    assert [(r["steps"], r["substeps"], r["run"]) for r in said["rounds"]] == [(4, 2, "steps-4"), (2, 2, "steps-2")]
    for name in ("steps-4", "steps-2"):
        student = textflow.load(students / name)
        assert len(student.generate(num_samples=2, num_steps=int(name[-1]))) == 2
        assert "val/loss" in (students / name / "metrics.csv").read_text()


def test_a_round_starts_where_the_one_before_ended_and_keeps_the_codec(teacher: Path, students: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, students / "steps-4"))
    codec = [name for name in before if name.startswith("frozen_codec.")]
    assert codec and all(torch.equal(before[name], after[name]) for name in codec)
    moved = [float((before[n] - after[n]).norm() / before[n].norm().clamp_min(1e-6)) for n in before if n[:4] == "net."]
    assert max(moved) > 0 and sorted(moved)[len(moved) // 2] < 0.5  # it moved, and not from somewhere else


def test_no_teacher_is_saved_in_a_student(students: Path) -> None:
    names = load_file(students / "steps-2" / "model.safetensors")
    (state,) = (students / "steps-2" / "state").glob("step-*6/state.pt")
    held = torch.load(state, weights_only=True)
    saved = [name.replace("objective.teacher_objective.", "objective.") for name in [*names, *held["state_dict"]]]
    assert not any("teacher" in name or "objective.ema_net" in name for name in saved)
    own = [name for name in held["state_dict"] if name.startswith("net.")]
    assert len(held["optimizer_states"][0]["state"]) == len(own), "as many moments as the student has parameters"


def test_every_round_has_curves_at_its_own_steps(students: Path) -> None:
    for steps in (4, 2):
        rows = [line.split(",") for line in (students / f"steps-{steps}" / "metrics.csv").read_text().splitlines()]
        for name, at in (
            ("dabi/structured_flip_rate", ["3", "6"]),
            ("cci/value", ["3", "6"]),
            ("stiffness/peak", ["6"]),
        ):
            assert [step for step, key, _ in rows if key == name] == at
        kept = (students / f"steps-{steps}" / "recipe.yaml").read_text()
        assert kept.count(f"steps: {steps}\n") >= 4, "of the objective and of three callbacks"


def test_the_rounds_are_jobs_of_one_group(students: Path) -> None:
    for steps in (4, 2):
        (file,) = (students / f"steps-{steps}" / "wandb").glob("offline-run-*/*.wandb")
        said = [run for run in runs(file) if run.run_group]
        assert said and {(run.run_group, run.job_type) for run in said} == {("students", f"steps-{steps}")}


def test_a_teacher_is_loaded_once_stays_in_eval_and_does_not_move(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from textflow import run_folder
    from textflow.distill import StepDistillation

    loaded, seen, load, lesson = [], [], run_folder.load, StepDistillation.target_output

    def noted(run: Path, *args: Any) -> Any:
        loaded.append((Path(run).name, model := load(run, *args)))
        return model

    def watched(self: StepDistillation, *args: Any) -> Any:
        assert self.teacher is not None
        seen.append(self.teacher.module)
        assert not any(part.training for part in self.teacher.module.modules())
        assert not any(p.requires_grad for p in self.teacher.module.parameters())
        return lesson(self, *args)

    like: list[Any] = []
    monkeypatch.setattr(run_folder, "load", noted)
    monkeypatch.setattr(StepDistillation, "target_output", watched)
    monkeypatch.setattr(ELF, "use_backend_of", lambda own, other: like.append(own))
    assert main([*words(teacher, teacher.parent / "once"), "--trainer.callbacks", "[]"]) == 0
    assert [name for name, _ in loaded] == ["run", "steps-4"]
    assert {id(net) for net in seen} == {id(net) for net in like} == {id(loaded[0][1].ema_net)}
    weights = {name: tensor for name, tensor in load_file(teacher / "model.safetensors").items() if name[:4] == "net."}
    own = loaded[0][1].ema_net.state_dict()
    assert all(torch.equal(own[name[4:]], tensor) for name, tensor in weights.items())


def test_a_flow_map_is_one_run_for_all_steps(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = teacher.parent / "apart" / "flow"
    assert main(words(teacher, out, "flow")) == 0
    student = textflow.load(out / "all-steps")
    assert student.ema_net.end_t_embed is not None and len(student.generate(num_samples=2, num_steps=3)) == 2
    save_judge(out.parent / "scorer")
    capsys.readouterr()
    compare_students(out, n=4)
    assert "recipe's" in capsys.readouterr().out
    scored = json.loads((out / "rounds_scored.json").read_text())
    assert {(r["steps"], r["role"], r["run"]) for r in scored} == {
        (steps, *who) for steps in (2, 1) for who in (("teacher", "run"), ("student", "all-steps"))
    }
    assert {r["sampler_name"] for r in scored} == {"ODE", "re-injection", "mode commit", "recipe's"}


def test_a_changed_target_is_labelled_with_its_error(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(monkeypatch, avx=False)
    out = teacher.parent / "aware" / "students"
    changes = [word for key, value in AWARE.items() for word in (f"--model.objective.{key}", value)]
    quiet = ["--trainer.callbacks", "[]", "--run.wandb", "false", "--rounds", "[[2,2]]"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main([*words(teacher, out), *changes, *quiet]) == 0
    said = [str(one.message) for one in told if "bf16" in str(one.message)]
    assert said == [f"objective.teacher_precision bf16: {SLOW}; same is not"]
    (cost,) = target_errors(out, validation_batch(read(out / "steps-2")["data"], 8))
    assert (
        cost["K"] == 2
        and cost["target"] == "Progressive, bf16, Everywhere chosen, logit adjustment 0.2, re-injection 1.5"
    )
    assert cost["Euler steps"] == 2 and cost["error"] > 0


def test_rounds_that_share_a_folder_are_refused(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*words(teacher, teacher.parent / "twice"), "--rounds", "[[2,2],[2,4]]"]) == 2
    assert "its own number of steps" in capsys.readouterr().err
    assert main([*words(teacher, teacher.parent / "twice", "flow"), "--rounds", "[[2,1],[1,1]]"]) == 2
    assert "needs one round" in capsys.readouterr().err


def test_the_same_command_does_nothing_more(teacher: Path, students: Path) -> None:
    before = (students / "steps-2" / "model.safetensors").read_bytes()
    assert main(words(teacher, students)) == 0
    assert (students / "steps-2" / "model.safetensors").read_bytes() == before


def test_a_round_that_another_began_from_is_not_trained_further(
    teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = teacher.parent / "longer"
    quiet = ["--trainer.callbacks", "[]", "--run.wandb", "false", "--trainer.max_steps"]
    assert main([*words(teacher, out), *quiet, "3"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main([*words(teacher, out), *quiet, "6"]) == 2
    said = capsys.readouterr().err
    assert f"{out / 'steps-2'} started from {out / 'steps-4'} at step 3" in said and said.count("\n") == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert main([*words(teacher, out), *quiet, "3"]) == 0, "what was done stays so"
    shutil.rmtree(out / "steps-2")
    assert main([*words(teacher, out), *quiet, "6"]) == 0
    assert main([*words(teacher, out), *quiet, "6"]) == 0


def test_a_round_goes_on_with_the_weights_it_has_begun_with_wherever_they_lie(
    teacher: Path, students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(students, tmp_path / "students"))
    elsewhere = Path(shutil.copytree(teacher, tmp_path / "teacher"))
    origin = out / "steps-2" / "origin.json"
    job = [word if word != str(teacher) else str(elsewhere) for word in words(teacher, out)]
    held = json.loads(origin.read_text())
    origin.unlink()
    assert main(job) == 0
    assert json.loads(origin.read_text()) == held, "a run without it has it from now on"
    for text, said in (
        (json.dumps(held | {"start": "other"}), "other weights of its start"),
        (json.dumps(held | {"teacher": "other"}), "other weights of its teacher"),
        ("", "origin.json is damaged"),
        ('{"teacher": 3}', "origin.json is damaged"),
        ("[" * 100_000, "origin.json is damaged"),
    ):
        origin.write_text(text)
        capsys.readouterr()
        assert main(job) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("textflow distill: ") and said in error


def test_who_comes_second_into_a_folder_leaves_no_mark(teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = teacher.parent / "held"
    with lock_run(out / "steps-4"):
        capsys.readouterr()
        assert main(words(teacher, out)) == 2
    assert "another `textflow fit` is writing" in capsys.readouterr().err
    assert [path.name for path in out.rglob("*") if path.is_file()] == [".lock"]


def test_a_try_teaches_the_first_round_and_leaves_nothing(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(monkeypatch, avx=False)
    out = teacher.parent / "tried"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert main([*words(teacher, out), "--trainer.fast_dev_run", "true", "--run.wandb", "false"]) == 0
    assert not out.exists() and not [one for one in told if "bf16" in str(one.message)]


def test_a_student_can_teach_and_what_learned_otherwise_cannot(
    teacher: Path, students: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    job = words(teacher, tmp_path / "next")
    assert main([word if word != str(teacher) else str(students / "steps-2") for word in job] + ["--print_config"]) == 0
    objective = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["objective"]
    assert objective["init_args"]["teacher_objective"]["class_path"].endswith("ELFObjective")
    other = Path(shutil.copytree(teacher, tmp_path / "other"))
    tree = yaml.safe_load((other / "recipe.yaml").read_text())
    tree["model"]["init_args"]["objective"] = {"class_path": "FlowMap"}
    (other / "recipe.yaml").write_text(yaml.safe_dump(tree))
    assert main([word if word != str(teacher) else str(other) for word in job]) == 2
    error = capsys.readouterr().err
    assert "teacher that ELFObjective trained" in error and "learned by FlowMap" in error and error.count("\n") == 1


def test_killed_in_the_second_round_it_ends_with_the_same_weights(
    commands: Commands, teacher: Path, students: Path
) -> None:
    out = teacher.parent / "killed"
    job = [*words(teacher, out), "--run.wandb", "false"]
    state = out / "steps-2" / "state" / "step-00000003"
    assert commands.run(*job, kill=0, watch=str(state)).code == -9
    assert state.exists() and not (state.parent / "step-00000006").exists()
    assert main(job) == 0
    whole, cut = (load_file(folder / "steps-2" / "model.safetensors") for folder in (students, out))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_rounds_are_scored_beside_their_teacher(
    students: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_judge(students.parent / "scorer")
    capsys.readouterr()
    compare_students(students, n=4)
    said = capsys.readouterr().out
    assert all(word in said for word in ("mode commit", "re-injection", "ODE to", "15-38%", "stiffness"))
    assert "Students against their teacher" in said and "Targets other" not in said
    scored = json.loads((students / "rounds_scored.json").read_text())
    assert all(("dabi_ce" in r) != ("dabi_ce_at_least" in r) for r in scored), "each grid has a last time"
    cells = {(r["steps"], r["role"], r["sampler_name"]) for r in scored}
    assert len(scored) == len(cells) == 2 * 2 * 3 and all(r["n"] == 4 and r["stiffness"] >= 0 for r in scored)
    assert all(r["cci"] == 0 for r in scored if r["sampler_name"] != "mode commit")

    made: list[int] = []
    monkeypatch.setattr(measure, "evaluate", lambda *args: made.append(args[2][0]) or evaluate(*args))
    (students / "rounds_scored.json").write_text(json.dumps(scored[:9] + [scored[9] | {"checkpoint_hash": "other"}]))
    compare_students(students, n=4)
    assert made == [r["steps"] for r in scored[9:]], "rows that are there stay; those of other weights do not"
    again = json.loads((students / "rounds_scored.json").read_text())
    assert [r["perplexity"] for r in again] == [r["perplexity"] for r in scored]


def test_distillations_of_one_teacher_stand_side_by_side(students: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def row(**other: Any) -> dict[str, Any]:
        fixed = {
            "scorer_hash": "ab",
            "scorer_dtype": "float32",
            "token_weighting": "local",
            "n": 4,
            "seed": 0,
            "nfe": 3.0,
        }
        return (
            fixed
            | {"role": "student", "sampler_name": "ODE", "steps": 2, "entropy": 3.0, "nll_minus_entropy": 1.0}
            | other
        )

    for name, rows in {
        "one": [
            row(role="teacher", perplexity=90.0, nll_minus_entropy=1.5),
            row(perplexity=50.0, nll_minus_entropy=0.9),
        ],
        "two": [
            *(row(perplexity=40.0, nll_minus_entropy=0.7), row(perplexity=30.0, steps=4, nfe=5.0)),
            row(perplexity=None, nll_minus_entropy=None, steps=8),
        ],
    }.items():
        (folder := students.parent / name).mkdir()
        (folder / "rounds.json").write_text("{}")
        (folder / "rounds_scored.json").write_text(json.dumps(rows))
    one, two = students.parent / "one", students.parent / "two"
    capsys.readouterr()
    assert main(["compare", str(one), str(two)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "teacher ODE 90 / 3.00 (3)",
        "one ODE 50 / 3.00 (3)",
        "two ODE no text 30 / 3.00 (5) * 40 / 3.00 (3) *",
    ):
        assert line in lines
    others = [row(role="teacher", perplexity=90.0, checkpoint_hash="other")]
    (two / "rounds_scored.json").write_text(json.dumps(others))
    assert main(["compare", str(one), str(two)]) == 2 and "teacher differs" in capsys.readouterr().err
    (two / "rounds_scored.json").unlink()
    assert main(["compare", str(one), str(two)]) == 2 and "are not scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["distill", "STUDENTS"], "a recipe and a teacher"),
        (["distill", "STUDENTS", "--teacher", "nowhere"], "nowhere holds no trained run to learn from"),
        (["distill", "STUDENTS", "--teacher=nowhere"], "nowhere holds no trained run to learn from"),
        (["distill", "STUDENTS", "--teacher=first", "--teacher", "last"], "last holds no trained run to learn from"),
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
