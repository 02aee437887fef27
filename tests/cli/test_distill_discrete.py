"""`textflow distill` of a Duo run by discrete consistency: rounds, resumption, and what follows a run over tokens."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import textflow
from tests.helpers.distillation import DCD, DUO, distill_argv
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.cli.distill import compare_students
from textflow.cli.resume import check_same_start

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a tiny Duo, beside a recipe of its students."""
    folder = tmp_path_factory.mktemp("discrete")
    write_recipe(folder)  # its text
    (folder / "duo.yaml").write_text(DUO.replace("FOLDER", str(folder)))
    (folder / "dcd.yaml").write_text(DCD)
    assert main(["fit", str(folder / "duo.yaml")]) == 0
    return folder / "duo"


@pytest.fixture(scope="module")
def rounds(duo: Path) -> Path:
    """Folder of its two rounds of students."""
    assert main(distill_argv(duo, duo.parent / "rounds", "dcd")) == 0
    return duo.parent / "rounds"


def test_each_round_learns_from_the_student_before_it(duo: Path, rounds: Path) -> None:
    record = json.loads((rounds / "rounds.json").read_text())
    assert [student["run"] for student in record["rounds"]] == ["steps-4", "steps-2"]
    objective = yaml.safe_load((rounds / "steps-2" / "recipe.yaml").read_text())["model"]["init_args"]["objective"]
    assert objective["init_args"]["steps"] == 2
    assert objective["init_args"]["teacher_objective"]["init_args"]["curriculum_steps"] == 4
    check_same_start(rounds / "steps-4", {"teacher": duo, "start": duo})
    check_same_start(rounds / "steps-2", {"teacher": rounds / "steps-4", "start": rounds / "steps-4"})
    first, second = (load_file(run / "model.safetensors") for run in (duo, rounds / "steps-4"))
    assert first.keys() == second.keys() and any(not torch.equal(first[name], second[name]) for name in first)
    assert len(textflow.load(rounds / "steps-2").generate(num_samples=2, num_steps=2)) == 2


@pytest.mark.slow
def test_a_run_killed_in_its_second_round_ends_with_the_same_weights(
    commands: Commands, duo: Path, rounds: Path
) -> None:
    out = duo.parent / "killed"
    argv = distill_argv(duo, out, "dcd")
    state = out / "steps-2" / "state" / "step-00000003"
    assert commands.run(*argv, kill=0, watch=str(state)).code == -9
    assert state.exists() and not (state.parent / "step-00000006").exists()
    assert main(argv) == 0
    expected, resumed = (load_file(folder / "steps-2" / "model.safetensors") for folder in (rounds, out))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_run_over_tokens_has_a_cci_and_its_students_are_compared_by_eval(
    duo: Path, rounds: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", str(duo), "-n", "3"]) == 0 and "CCI" in capsys.readouterr().out
    (row,) = json.loads((duo / "diagnostics" / "diagnose.json").read_text())["cci"]
    assert 0 < row["cci"] < 1 and row["K"] == 8 and row["n"] == 48
    fails(["reproduce", "fig3", "--run", str(duo)], "a DiscreteDiffusion, which has no latents to measure or draw")
    fails(["diagnose", str(duo), "--measures", "cci,dabi"], "dabi measures latents, and a DiscreteDiffusion has none")
    fails(["sample", str(duo), "--sampler", "ode"], "leave --sampler ode out")
    fails(["sample", str(duo), "recipes/schedule/decode_error.yaml"], "a discrete diffusion model has none")
    save_scorer(duo.parent / "scorer")
    compare_students(rounds)
    assert f"textflow eval {rounds / 'steps-2'} --steps 2" in capsys.readouterr().out


def test_students_by_discrete_consistency_need_a_teacher_of_uniform_diffusion(
    duo: Path, tmp_path: Path, fails: Fails
) -> None:
    other = tmp_path / "mdlm"
    argv = ["--run.folder", str(other), "--model.objective", "MDLMObjective", "--model.sampler", "MDLMSampler"]
    assert main(["fit", str(duo.parent / "duo.yaml"), *argv, "--trainer.max_steps", "2"]) == 0
    fails([*distill_argv(duo, tmp_path / "x", "dcd"), "--teacher", str(other)], "trained by MDLMObjective")
