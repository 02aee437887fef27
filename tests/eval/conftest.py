"""A fitted tiny run, and a tiny scorer beside it."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny_scorer import save_scorer
from textflow.metrics import Scorer


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> Path:
    """Folder of a copy of the trained run, in which tests write; its scorer is in TINY/tiny_scorer."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("run", "cache"):
        shutil.copytree(trained_run.parent / name, folder / name)
    shutil.copy(trained_run.parent / "text.txt", folder)
    for recipe in folder.rglob("recipe.yaml"):  # its text and data are the copy's
        recipe.write_text(recipe.read_text().replace(str(trained_run.parent), str(folder)))
    save_scorer(folder / "tiny_scorer")
    return folder / "run"


@pytest.fixture(scope="session")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(save_scorer(tmp_path_factory.mktemp("scorer")))
