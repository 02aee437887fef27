"""A run on another path than the straight one (LangFlow): a flow map of it in log-SNR time, and its likelihood."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import textflow
from tests.helpers.tiny_recipe import LANGFLOW, write_model
from textflow.cli.app import main
from textflow.models.generator import Generator
from textflow.nets import LangFlow

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted LangFlow of 320 tokens."""
    folder = tmp_path_factory.mktemp("langflow")
    assert main(["fit", str(write_model(folder, LANGFLOW, max_steps=4))]) == 0
    return folder / "run"


def test_a_flow_map_of_langflow_is_trained_and_its_last_step_ends_at_the_law(teacher: Path, tmp_path: Path) -> None:
    steps = {"max_steps": 2, "val_check_interval": 2}
    overlay = {"run": {"folder": str(tmp_path / "map"), "save_every": 2, "sample_every": 2}, "trainer": steps}
    (tmp_path / "tiny.yaml").write_text("# tiny\n" + yaml.safe_dump(overlay))
    assert main(["distill", "recipes/fmlm.yaml", str(tmp_path / "tiny.yaml"), "--teacher", str(teacher)]) == 0
    run = tmp_path / "map" / "all-steps"
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, run))
    assert torch.equal(before["net.codec.table"], after["net.codec.table"]), "its latents are the teacher's"
    assert not torch.equal(before["net.out.weight"], after["net.out.weight"])
    student = textflow.load(run)
    assert isinstance(student, Generator) and isinstance(student.ema_net, LangFlow) and student.ema_net.two_time
    ends: list[float] = []
    embed = student.ema_net.end_t_embed
    embed.register_forward_pre_hook(lambda _, args: ends.append(-float(args[0][0])))  # type: ignore[union-attr]
    student.sample([1], 3)
    grid, last = student.sampling_schedule.grid(3, t_min=-12.0, t_max=14.5), student.sampling_schedule.t_last
    assert ends == pytest.approx([*grid[1:-1], last]) and grid[-1] == 14.5 > last


def test_diagnose_has_the_likelihood_of_a_run_on_this_path(teacher: Path, tmp_path: Path) -> None:
    options = ["--n", "4", "--measures", "likelihood,rollin", "--out", str(tmp_path)]
    assert main(["diagnose", str(teacher), *options]) == 0
    measured = json.loads((tmp_path / "diagnose.json").read_text())
    bound, flow = measured["likelihood"]
    for row in (bound, flow):
        assert row["nll"] == pytest.approx(row["reconstruction"] + row["integral"] + row["prior"])
    assert (bound["method"], flow["method"]) == ("bound", "flow")
    assert (flow["steps"], flow["seed"], flow["rows"], flow["n"]) == (32, 0, 4, bound["n"])
    assert bound["integral"] > 0 and flow["integral"] != pytest.approx(bound["integral"])
    assert {row["K"] for row in measured["rollin"]} == {2, 4, 8, 16}
