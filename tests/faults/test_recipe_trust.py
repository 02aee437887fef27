"""Recipes name code: only textflow's own, or of packages trusted by name."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import textflow
from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main
from textflow.config.trust import refuse_code

CODE = "import pathlib; pathlib.Path({mark!r}).write_text('code ran')\n"
STUDENTS = """
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}
trainer: {max_steps: 2}
"""
CALL = {"class_path": "os.system", "init_args": {"command": "touch MARK"}}
COMMANDS = ("sample RUN -n 1 --steps 1", "eval RUN", "report RUN", "diagnose RUN", "check RUN/recipe.yaml")


def changed_run(run: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a run whose recipe was changed by another hand."""
    shutil.copytree(run, folder)
    tree = yaml.safe_load((folder / "recipe.yaml").read_text())
    change(tree)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return folder


def schedule(tree: dict[str, Any], value: Any) -> None:
    tree["model"]["init_args"]["lr_scheduler"] = value


@pytest.mark.integration
@pytest.mark.parametrize("argv", [*COMMANDS, "fit RUN/recipe.yaml", "distill students.yaml --teacher RUN"])
def test_no_command_calls_what_a_runs_recipe_names(
    run: Path, tmp_path: Path, mark: Path, argv: str, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "students.yaml").write_text(STUDENTS)
    call = json.loads(json.dumps(CALL).replace("MARK", str(mark)))
    folder = changed_run(run, tmp_path / "other", lambda tree: schedule(tree, call))
    code, message = main(argv.replace("RUN", str(folder)).split()), "".join(capsys.readouterr())
    assert "os.system, code from outside textflow" in message and "TEXTFLOW_TRUST=os" in message, message
    assert code == (0 if argv.startswith("report") else 2), "a page shows what else it finds"


@pytest.mark.integration
@pytest.mark.parametrize(
    "value",
    [
        "os.system", " os.system ", "'os.system'", r'"os\x2esystem"', json.dumps(CALL), [CALL], {"os.system": 1},
        "builtins.exec",
        {"class_path": "torch.load", "init_args": {"f": "evil.pt", "weights_only": False}}, "subprocess.Popen",
        "textflow.runtime.atomic.atomic_write_text", "textflow.training.Trainer.fit",
        "textflow.config.recipe.ArgumentParser",
    ],
)  # fmt: skip
def test_no_name_of_code_is_parsed(run: Path, tmp_path: Path, value: Any) -> None:
    with pytest.raises(ValueError, match=r"code from outside textflow|is not a class of textflow"):
        textflow.load(changed_run(run, tmp_path / "other", lambda tree: schedule(tree, value)))


@pytest.mark.integration
def test_code_beside_a_recipe_runs_only_if_trusted(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text(
        "from pathlib import Path\nfrom textflow.training import WarmupLR\nclass Slow(WarmupLR): pass\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    slow = {"class_path": "beside.Slow", "init_args": {"warmup_steps": 2}}
    folder = changed_run(run, tmp_path / "other", lambda tree: schedule(tree, slow))
    with pytest.raises(ValueError, match=r"names beside\.Slow, code from outside.* set TEXTFLOW_TRUST=beside "):
        textflow.load(folder)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setenv("TEXTFLOW_TRUST", "another,beside")
    assert len(textflow.load(folder).generate(num_samples=1, num_steps=1)) == 1 and (tmp_path / "ran").exists()


@pytest.mark.integration
def test_code_named_on_the_command_line_is_refused_before_it_is_in_a_recipe(
    run: Path, tmp_path: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(run.parent / "teacher.yaml")
    assert main(["fit", teacher, "--trainer.callbacks", "[{class_path: os.system}]"]) == 2
    assert main(["fit", teacher, "--model.lr_scheduler=os.system"]) == 2
    assert capsys.readouterr().err.count("the command line names os.system, code from outside textflow") == 2
    folder = changed_run(run, tmp_path / "other", lambda tree: schedule(tree, CALL))
    assert main(["fit", teacher, "--run.folder", str(folder), "--trainer.max_steps", "16"]) == 2
    assert "damaged" not in (message := capsys.readouterr().err) and "TEXTFLOW_TRUST=os" in message, message


@pytest.mark.integration
def test_a_plugin_of_the_trainer_is_one_of_lightnings(tmp_path: Path, mark: Path) -> None:
    shell = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {mark}", "shell": True}}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"trainer": {"plugins": [shell]}}))
    assert main(["fit", str(write_recipe(tmp_path)), str(tmp_path / "overlay.yaml")]) == 2
    refuse_code({"files": "mine.txt", "name": "Skylion007/openwebtext", "x": "torch.optim.AdamW", "y": "a: b: c"}, "r")
