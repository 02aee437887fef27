"""textflow installed without its tree, in a new environment: its commands work in an empty folder."""

import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ignored(folder: str, names: list[str]) -> list[str]:
    """What is left out of the copy that the wheel is built in, so that the build leaves nothing in the tree."""
    if Path(folder) == ROOT / "checkpoints":
        return [name for name in names if name != "README.md" and not name.startswith("demo")]
    links = [name for name in names if (Path(folder) / name).is_symlink()]
    return [*links, *(name for name in names if name in (".git", "build", "tests", "wandb", "__pycache__"))]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(int(version("setuptools").split(".")[0]) < 77, reason="the build needs setuptools 77")
def test_an_installed_wheel_fits_samples_scores_and_reports_in_an_empty_folder(tmp_path: Path) -> None:
    source, fresh, empty = tmp_path / "source", tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    shutil.copytree(ROOT, source, ignore=ignored)
    python = new_environment(fresh)
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", "--no-build-isolation", "."], cwd=source, check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        "recipes --copy quickstart my.yaml",
        "fit quickstart --trainer.max_steps 20 --run.wandb false",
        "sample checkpoints/quickstart escape/commit -n 2 --steps 2",
        "eval checkpoints/quickstart --steps 2 --device cpu",
        "report checkpoints/quickstart --out report.html",
    ):
        subprocess.run([python.with_name("textflow"), *command.split()], cwd=empty, env=clean, check=True)
    run, page = empty / "checkpoints" / "quickstart", empty / "report.html"
    assert all(path.is_file() for path in (empty / "my.yaml", run / "model.safetensors", page))
    assert list((run / "eval").glob("*.json"))


def new_environment(folder: Path) -> Path:
    """Make an environment that finds the libraries of this one, but not its textflow; returns its Python."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")  # none of theirs is run
    return folder / "bin" / "python"
