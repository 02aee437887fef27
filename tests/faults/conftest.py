"""A trained run, and a file that shows whether code ran."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of the tiny teacher after four steps, beside its recipe teacher.yaml; no test changes it."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["fit", str(write_recipe(folder)), "--trainer.max_steps", "4"]) == 0
    return folder / "run"


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that the code of a test would write; it must be missing after the test."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "code ran"
