"""Overlays of recipes/strategy: `textflow fit` and `textflow distill` with two processes, started by the command."""

import json
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest

import textflow
from tests.helpers.launcher import ROOT, max_difference, state
from tests.helpers.tiny_recipe import FLM, LANGFLOW, write_model, write_recipe
from textflow.training.weights import read_weights

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SCHEDULE = ["--model.objective.time_schedule", "LogitNormal"]


def textflow_command(folder: Path, *argv: str) -> str:
    """Run `textflow`; return its standard output."""
    command = [sys.executable, "-m", "textflow.cli.app", *argv]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Errno" not in done.stderr, done.stderr[-3000:]
    return done.stdout


def fit(folder: Path, engine: str, *argv: str) -> Path:
    """Run `textflow fit` with an engine's overlay on learned embeddings; return the run folder."""
    overlay = [str(ROOT / "recipes" / "strategy" / f"{engine}.yaml")] if engine != "one" else []
    codec = ["--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8", *SCHEDULE]
    settings = ["--trainer.devices", "2", "--trainer.enable_progress_bar", "false", "--run.folder", engine]
    textflow_command(folder, "fit", "teacher.yaml", *overlay, *codec, *settings, *argv)
    return folder / engine


def test_a_codec_a_teacher_and_students_are_trained_in_two_processes(tmp_path: Path) -> None:
    options = [str(ROOT / "recipes" / "strategy" / "zero2.yaml"), "--trainer.devices", "2", "--trainer.max_steps", "4"]
    student = "model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}"
    (tmp_path / "students.yaml").write_text(f"rounds: [[4, 2], [2, 2]]\n{student}\nrun: {{wandb: false}}")
    for argv in (
        ["fit", str(write_recipe(tmp_path)), *options, *SCHEDULE],
        ["distill", "students.yaml", *options, "--teacher", "run", "--run.folder", "students"],
    ):
        assert textflow_command(tmp_path, *argv).count("Trained: ") == 2  # only from the first process
    rounds = json.loads((tmp_path / "students" / "rounds.json").read_text())["rounds"]
    assert [each["run"] for each in rounds] == ["steps-4", "steps-2"]
    for name in ("run", "students/steps-4", "students/steps-2"):
        assert len(textflow.load(tmp_path / name).generate(num_samples=2, num_steps=2)) == 2
    assert read_weights(tmp_path / "run" / "codec" / "model.safetensors")[1]["step"] == "40"


def test_every_overlay_trains_the_same_generator_and_one_process_resumes_it(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    callback = "{class_path: DABI, init_args: {every_n_steps: 3, num_rows: 4}}"
    (tmp_path / "diagnostic.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}")
    engines = ("ddp", "zero1", "zero2", "zero3", "fsdp")
    runs = [fit(tmp_path, engine, "--config", "diagnostic.yaml", "--run.sample_every", "6") for engine in engines]
    for run in runs:
        assert (run / "samples" / "step-00000006.txt").is_file()
        assert len(textflow.load(run).generate(num_samples=2, num_steps=2)) == 2
        assert max_difference(run, runs[0], "net.", 12) < 1e-5, run
        assert max_difference(run, runs[0], "ema_net.", 12) < 1e-5, run
    shutil.copytree(runs[0] / "state" / "step-00000008", tmp_path / "one" / "state" / "step-00000008")
    resumed = fit(tmp_path, "one", "--trainer.devices", "1", "--data.batch_size", "8")
    assert len(state(resumed, 12)["state_dict"]) == len(state(runs[0], 12)["state_dict"])


@pytest.mark.parametrize("name", ["flm", "langflow"])
def test_every_overlay_trains_a_table_that_is_used_outside_the_forward(tmp_path: Path, name: str) -> None:
    parts = deepcopy({"flm": FLM, "langflow": LANGFLOW}[name])
    if name == "langflow":  # only ddp shares a learned schedule
        parts["objective"]["init_args"]["time_schedule"]["init_args"]["trainable"] = False
    parts["lr_scheduler"] = {"class_path": "WarmupLR", "init_args": {"warmup_steps": 2}}
    write_model(tmp_path, parts, max_steps=8)
    runs = {}
    for engine in ("ddp", "zero1", "zero2", "zero3", "fsdp"):
        overlay, folder = str(ROOT / "recipes" / "strategy" / f"{engine}.yaml"), tmp_path / engine
        settings = ["--trainer.devices", "2", "--run.folder", engine, "--run.sample_every", "4"]
        textflow_command(tmp_path, "fit", "teacher.yaml", overlay, *settings)
        runs[engine] = folder
    for run in runs.values():
        assert max_difference(run, runs["ddp"], "net.", 8) < 1e-5, run
        for step in (4, 8):
            sample = f"samples/step-{step:08d}.txt"
            assert (run / sample).read_text() == (runs["ddp"] / sample).read_text(), run
