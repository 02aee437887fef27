"""Each block of README.md runs, on a tiny run."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.helpers.readme_blocks import BLOCKS, README, code_of, shell_commands
from tests.helpers.tiny_elf import save_official
from textflow.cli.app import VERBS, main

ROOT = Path(__file__).parents[1]
SMALLER = {  # options that make a command of each verb small; every verb of README needs an entry
    "check": "",
    "fit": "",
    "sample": "--steps 2",
    "eval": "--steps 1,2 -n 4",
    "diagnose": "--measures dabi,cci -n 4",
    "distill": "--rounds [[2,2]] --trainer.max_steps 2 --trainer.val_check_interval 1 --run.wandb false",
    "order": "--groups 2 -n 4 --restarts 1",
    "compare": "",
    "report": "--samples 1 --steps 2",
    "reproduce": "--quick --jobs 1",
    "convert": "",
    "bench": "--rows 8 --length 16 --depth 1 --repeats 1",
    "league": "--dry-run",
    "recipes": "",
    "push": "",
    "fetch": "",
}
SLOW = {"reproduce", "bench"}
COMMANDS = [*shell_commands(code_of("Quickstart", "sh")), *shell_commands(code_of("Commands", "sh"))]


def small(arguments: list[str]) -> list[str]:
    """The arguments of a textflow command, with the options that make it small."""
    program, verb, *rest = arguments
    assert program == "textflow"
    return [verb, *rest, *shlex.split(SMALLER[verb])]


def tiny_quickstart(tree: dict[str, Any]) -> dict[str, Any]:
    """The quickstart with a small net, few stories and few steps."""
    parts = tree["model"]["init_args"]
    parts["codec"]["init_args"]["dim"] = 8
    parts["net"]["init_args"] |= {"width": 16, "depth": 1, "heads": 2, "cond_width": 4}
    tree["data"] |= {"batch_size": 4, "cache": "cache", "val_fraction": 0.2}
    tree["data"]["source"]["init_args"] = {"num_documents": 200}
    tree["run"] |= {"save_every": 4, "sample_every": 4, "num_samples": 2, "wandb": False}
    tree["trainer"] |= {"max_steps": 4, "val_check_interval": 4, "limit_val_batches": 2, "log_every_n_steps": 1}
    examples = {"class_path": "StoryExamples", "init_args": {"num_samples": 2, "groups": 2}}
    curves = {"class_path": "StoryCurves", "init_args": {"every_n_steps": 4, "num_samples": 2, "steps": [1, 2]}}
    return tree | {"trainer": tree["trainer"] | {"callbacks": [curves, examples]}}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which README's commands run unchanged: recipes/quickstart.yaml is a tiny one there."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    recipe = folder / "recipes" / "quickstart.yaml"
    recipe.write_text("# tiny quickstart\n" + yaml.safe_dump(tiny_quickstart(yaml.safe_load(recipe.read_text()))))
    published = folder / "embedded-language-flows" / "ELF-B-owt-torch"
    published.mkdir(parents=True)
    save_official(published, "elf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "recipes/quickstart.yaml"]) == 0
    return folder


@pytest.fixture
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace as the current folder."""
    monkeypatch.chdir(workspace)
    return workspace


def test_every_block_is_run_by_a_test_below() -> None:
    blocks = [block[:2] for block in BLOCKS if block.language != "bibtex"]
    assert blocks == [
        ("Install", "sh"),
        ("Quickstart", "sh"),
        ("Python", "python"),
        ("Python", "python"),
        ("Commands", "sh"),
        ("Commands", "sh"),
    ], "README's blocks have changed: run the new one in a test and list it here"
    assert len(re.findall(r"^\s*(?:```|~~~)", README, re.MULTILINE)) == 2 * len(BLOCKS), "a block is not read"


def test_every_verb_is_in_readme() -> None:
    assert {arguments[1] for arguments in shell_commands(code_of("Commands", "sh"))} == set(VERBS) == set(SMALLER)


def as_parameter(arguments: list[str]) -> Any:
    """A command as a test's parameter."""
    marks = [pytest.mark.integration, *([pytest.mark.slow] if arguments[1] in SLOW else [])]
    return pytest.param(arguments, marks=marks, id=shlex.join(arguments[1:]))


@pytest.mark.parametrize("arguments", map(as_parameter, COMMANDS))
def test_a_command_of_readme_runs(
    arguments: list[str], inside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textflow.convert.push.push_run", lambda run, name, *_: f"{name}: {run}")  # no network
    if arguments[1] == "compare":  # it prints what eval has recorded
        assert main(small(["textflow", "eval", "checkpoints/quickstart", "--protocol", "stories"])) == 0
    assert main(small(arguments)) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.integration
def test_a_run_is_loaded_sampled_and_read_in_python(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_python(code_of("Python", "python", 0))
    assert names["posterior"].mean.shape == names["x"].shape
    assert names["logits"].shape[:2] == names["ids"].shape
    assert capsys.readouterr().out.startswith("[")


def test_dabi_of_an_own_decoder_is_near_1_along_a_random_error(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    flips = run_python(code_of("Python", "python", 1))["flips"]
    assert 0.8 < flips.low <= flips.value <= flips.high < 1.25
    assert f"{flips.value:.2f}" in capsys.readouterr().out


def run_python(code: str) -> dict[str, Any]:
    """Run a Python block; its variables."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    return names


@pytest.mark.integration
@pytest.mark.parametrize("block", [("Install", "sh", 0), ("Commands", "sh", 1)], ids=["install", "test"])
def test_the_commands_that_install_and_test_are_accepted(block: tuple[str, str, int], tmp_path: Path) -> None:
    runners: dict[tuple[str, ...], Callable[[list[str], Path], None]] = {
        ("python", "-m", "venv"): make_venv,
        (".",): activate,
        ("pip", "install"): resolve_installed,
        ("pytest",): collect_only,
    }
    for arguments in shell_commands(code_of(*block)):
        (run,) = (run for start, run in runners.items() if tuple(arguments[: len(start)]) == start)
        run(arguments, tmp_path)


def make_venv(arguments: list[str], folder: Path) -> None:
    """Make the virtual environment, without downloading pip."""
    subprocess.run([sys.executable, *arguments[1:], "--without-pip"], cwd=folder, check=True)


def activate(arguments: list[str], folder: Path) -> None:
    """The script that a shell would read exists."""
    assert (folder / arguments[1]).is_file()


def resolve_installed(arguments: list[str], folder: Path) -> None:
    """Let pip parse the command without network: a requirement counts as met if it is installed, textflow for `.`."""
    options = ["--dry-run", "--no-index", "--no-deps", "--disable-pip-version-check"]
    rest = [re.sub(r"^\.", "textflow", word) for word in arguments[2:] if word != "-e"]
    command = [sys.executable, "-m", "pip", "install", *options, *rest]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr


def collect_only(arguments: list[str], folder: Path) -> None:
    """Let pytest parse its options and collect one small file, without torch."""
    command = [sys.executable, "-m", *arguments, "--collect-only", "--noconftest", "tests/test_packages.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
