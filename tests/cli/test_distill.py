"""`textflow distill`: the rounds of a distillation, their teacher and their logs."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import textflow
from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.distillation import NO_LOGS, distill_argv
from tests.helpers.wandb_history import runs
from textflow import run_folder
from textflow.cli.app import main
from textflow.distill import StepDistillation
from textflow.eval.distillation.measure import target_errors
from textflow.eval.protocol import run_recipe, validation_batch
from textflow.nets import ELF

pytestmark = pytest.mark.integration
CHANGED_TARGET = ["commit_gate=Everywhere", "logit_adjustment=0.2", "target.gamma=1.5", "teacher_precision=bf16"]
SHORT = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
CURVES = {"dabi/structured_flip_rate": ["3", "6"], "cci/value": ["3", "6"], "stiffness/peak": ["6"]}


def test_each_round_is_a_run_that_samples(students: Path) -> None:
    record = json.loads((students / "rounds.json").read_text())
    assert [(r["steps"], r["substeps"], r["run"]) for r in record["rounds"]] == [(4, 2, "steps-4"), (2, 2, "steps-2")]
    for name in ("steps-4", "steps-2"):
        student = textflow.load(students / name)
        assert len(student.generate(num_samples=2, num_steps=int(name[-1]))) == 2
        assert "val/loss" in (students / name / "metrics.csv").read_text()


def test_a_student_is_sampled_in_its_own_steps(students: Path, tmp_path: Path) -> None:
    own, written = tmp_path / "own.jsonl", tmp_path / "written.jsonl"
    assert main(["sample", str(students / "steps-4"), "-n", "2", "--out", str(own)]) == 0
    assert main(["sample", str(students / "steps-4"), "-n", "2", "--steps", "4", "--out", str(written)]) == 0
    assert own.read_text() == written.read_text()


def test_the_first_round_starts_near_its_teacher_and_saves_only_its_codec(teacher: Path, students: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, students / "steps-4"))
    codec = [name for name in before if name.startswith("frozen_codec.")]
    assert codec and all(torch.equal(before[name], after[name]) for name in codec)
    moved = [float((before[n] - after[n]).norm() / before[n].norm().clamp_min(1e-6)) for n in before if n[:4] == "net."]
    assert max(moved) > 0 and sorted(moved)[len(moved) // 2] < 0.5  # trained, but near its start
    (file,) = (students / "steps-2" / "state").glob("step-*6/state.pt")
    state, weights = torch.load(file, weights_only=True), load_file(students / "steps-2" / "model.safetensors")
    names = [name.replace("objective.teacher_objective.", "objective.") for name in [*weights, *state["state_dict"]]]
    assert not any("teacher" in name or "objective.ema_net" in name for name in names)
    own = [name for name in state["state_dict"] if name.startswith("model.net.")]
    assert len(state["optimizer_states"][0]["state"]) == len(own), "as many moments as the student has parameters"


def test_every_round_logs_diagnostics_at_its_own_steps_in_one_group_of_wandb(students: Path) -> None:
    for steps in (4, 2):
        run = students / f"steps-{steps}"
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        assert {name: [step for step, key, _ in rows if key == name] for name in CURVES} == CURVES
        recipe = (run / "recipe.yaml").read_text()
        assert recipe.count(f"steps: {steps}\n") >= 4, "of the objective and of three callbacks"
        (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
        records = {(record.run_group, record.job_type) for record in runs(file) if record.run_group}
        assert records == {("students", f"steps-{steps}")}


def test_a_teacher_is_loaded_once_and_stays_in_eval_mode(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, Any]] = []
    teachers: list[Any] = []
    backends: list[Any] = []
    load, target_output = run_folder.load, StepDistillation.target_output

    def record_load(run: Path, *args: Any) -> Any:
        loaded.append((Path(run).name, model := load(run, *args)))
        return model

    def record_teacher(self: StepDistillation, *args: Any) -> Any:
        assert self.teacher is not None
        teachers.append(self.teacher.module)
        assert not any(part.training for part in self.teacher.module.modules())
        assert not any(p.requires_grad for p in self.teacher.module.parameters())
        return target_output(self, *args)

    monkeypatch.setattr(run_folder, "load", record_load)
    monkeypatch.setattr(StepDistillation, "target_output", record_teacher)
    monkeypatch.setattr(ELF, "use_backend_of", lambda own, other: backends.append(own))
    assert main([*distill_argv(teacher, teacher.parent / "once"), *NO_LOGS, *SHORT]) == 0
    assert [name for name, _ in loaded] == ["run", "steps-4"]
    assert {id(net) for net in teachers} == {id(net) for net in backends} == {id(loaded[0][1].ema_net)}
    weights = {name: tensor for name, tensor in load_file(teacher / "model.safetensors").items() if name[:4] == "net."}
    own = loaded[0][1].ema_net.state_dict()
    assert all(torch.equal(own[name[4:]], tensor) for name, tensor in weights.items())


def test_a_changed_target_is_labelled_with_its_error(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(monkeypatch, avx=False)
    out = teacher.parent / "changed" / "students"
    changes = [f"--model.objective.{change}" for change in CHANGED_TARGET]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main([*distill_argv(teacher, out), *changes, *NO_LOGS, *SHORT, "--rounds", "[[2,2]]"]) == 0
    messages = [str(warning.message) for warning in caught if "bf16" in str(warning.message)]
    assert messages == [f"objective.teacher_precision bf16: {SLOW}; same is not"]
    (cost,) = target_errors(out, validation_batch(run_recipe(out / "steps-2")["data"], 8))
    assert cost["target"] == "Progressive, bf16, Everywhere chosen, logit adjustment 0.2, re-injection 1.5"
    assert cost["K"] == 2 and cost["Euler steps"] == 2 and cost["error"] > 0


def test_a_fast_dev_run_trains_one_round_and_writes_nothing(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(monkeypatch, avx=False)
    out = teacher.parent / "fast"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main([*distill_argv(teacher, out), "--trainer.fast_dev_run", "true", "--run.wandb", "false"]) == 0
    assert not out.exists() and not [warning for warning in caught if "bf16" in str(warning.message)]
