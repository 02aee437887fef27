"""A fitted tiny run, and a judge of words beside it."""

from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.tiny_scorer import save_judge
from textflow.cli.app import main


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run; TINY/judge is the judge."""
    folder = tmp_path_factory.mktemp("tiny")
    assert main(["fit", str(write_recipe(folder))]) == 0
    save_judge(folder / "judge")
    return folder / "run"
