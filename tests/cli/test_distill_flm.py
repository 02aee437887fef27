"""`textflow distill` of a teacher of one-hot tokens (FLM): students of every kind, from the command line."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import textflow
from tests.helpers.tiny_recipe import DECODE_ERROR, FLM, write_model
from textflow.cli.app import main
from textflow.models.generator import Generator

pytestmark = pytest.mark.integration

FLOW = {"class_path": "FlowMap", "init_args": {"time_schedule": DECODE_ERROR}}
STUDENTS = {
    "step": {"class_path": "StepDistillation", "init_args": {"target": "Progressive"}},
    "flow": {"class_path": "FlowMapDistillation", "init_args": {"target": "SemiGroup"}},
    "fmlm": FLOW,
    "mean_flow": {"class_path": "MeanFlowObjective"},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted FLM of 320 tokens."""
    folder = tmp_path_factory.mktemp("flm")
    assert main(["fit", str(write_model(folder, FLM, max_steps=4))]) == 0
    return folder / "run"


def test_a_teacher_of_one_hot_tokens_is_fitted_and_samples(teacher: Path) -> None:
    model = textflow.load(teacher)
    assert isinstance(model, Generator) and len(model.generate(num_samples=2, num_steps=3)) == 2
    assert "val/loss" in (teacher / "metrics.csv").read_text()
    assert model.sample([1], 2).trace.z.shape == (1, 16, 16), "as wide as the table, not as the vocabulary"


@pytest.mark.parametrize(
    "kind", ["fmlm", "flow", *(pytest.param(k, marks=pytest.mark.slow) for k in ("mean_flow", "step"))]
)
def test_its_students_are_trained_and_sample(teacher: Path, tmp_path: Path, kind: str) -> None:
    two_time = {} if kind == "step" else {"net": {"init_args": {"two_time": True}}}
    overlay = {
        "rounds": [[2, 2]],
        "model": {"init_args": {"objective": STUDENTS[kind]} | two_time},
        "run": {"folder": str(tmp_path / "students"), "save_every": 2, "sample_every": 2},
        "trainer": {"max_steps": 2, "val_check_interval": 2},
    }
    (tmp_path / "student.yaml").write_text("# student\n" + yaml.safe_dump(overlay))
    assert main(["distill", str(tmp_path / "student.yaml"), "--teacher", str(teacher)]) == 0
    run = tmp_path / "students" / ("steps-2" if kind == "step" else "all-steps")
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, run))
    moved = [float((before[name] - after[name]).norm()) for name in before if name.startswith("net.")]
    assert max(moved) > 0 and all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert len(textflow.load(run).generate(num_samples=2, num_steps=2)) == 2


def test_both_stages_of_two_stage_fmlm_are_trained_and_sample(teacher: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(teacher, tmp_path / "flow"))]
    for stage in ("fmlm_stage1", "fmlm_stage2"):
        folder = tmp_path / stage
        steps = {"max_steps": 2, "val_check_interval": 2}
        own = {"run": {"folder": str(folder), "save_every": 2, "sample_every": 2}, "trainer": steps}
        (tmp_path / "tiny.yaml").write_text("# tiny\n" + yaml.safe_dump(own))
        files = [f"recipes/student/{stage}.yaml", str(tmp_path / "tiny.yaml")]
        assert main(["distill", *files, "--teacher", str(runs[-1])]) == 0
        runs.append(folder / "all-steps")
    flow, first, second = (load_file(run / "model.safetensors") for run in runs)
    shutil.rmtree(runs[0])  # the first stage stands alone
    for name in (name for name in flow if name.startswith("net.")):
        assert torch.equal(first[name.replace("net.", "net.teacher.", 1)], flow[name]), name
    assert first["net.net.out.weight"].any() and not torch.equal(second["net.out.weight"], flow["net.out.weight"])
    for run, net in zip(runs[1:], ("ResidualFlowMap", "DiT"), strict=True):
        model = textflow.load(run)
        assert isinstance(model, Generator) and type(model.ema_net).__name__ == net and model.ema_net.two_time
        assert len(model.generate(num_samples=2, num_steps=2)) == 2
