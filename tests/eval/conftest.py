"""A fitted tiny run, and a tiny scorer beside it."""

from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import save_scorer
from textflow.cli.app import main
from textflow.metrics import Scorer


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run; its scorer is in TINY/tiny_scorer."""
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["fit", str(write_recipe(folder))]) == 0
    save_scorer(folder / "tiny_scorer")
    return folder / "run"


@pytest.fixture(scope="session")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return Scorer(save_scorer(tmp_path_factory.mktemp("scorer")))
