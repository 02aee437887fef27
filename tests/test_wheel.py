"""A wheel of the tree, installed without the tree: recipes are found by name in an empty folder."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ignored(folder: str, names: list[str]) -> list[str]:
    """What is left out of the copy that the wheel is built in, so that the build leaves nothing in the tree."""
    if Path(folder) == ROOT / "checkpoints":
        return [name for name in names if name not in ("README.md", "demo")]
    links = [name for name in names if (Path(folder) / name).is_symlink()]
    return [*links, *(name for name in names if name in (".git", "build", "tests", "wandb", "__pycache__"))]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="the build needs setuptools 77")
def test_an_installed_wheel_fits_and_samples_in_an_empty_folder(tmp_path: Path) -> None:
    source, site, empty = tmp_path / "source", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "-w", tmp_path], cwd=source, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    for arguments in (
        ["recipes"],
        ["recipes", "--copy", "quickstart", "my.yaml"],
        ["fit", "small/langflow", "hardware/cpu", "--trainer.max_steps", "20", "--run.wandb", "false"],
        ["sample", "checkpoints/langflow", "escape/commit", "-n", "2", "--steps", "2", "--device", "cpu"],
    ):
        command = [sys.executable, "-m", "textflow.cli.app", *arguments]
        subprocess.run(command, cwd=empty, env=os.environ | {"PYTHONPATH": str(site)}, check=True)
    assert (empty / "my.yaml").is_file() and (empty / "checkpoints" / "langflow" / "model.safetensors").is_file()
