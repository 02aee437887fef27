"""A trained run, and a file that shows whether code ran."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run(trained_run: Path) -> Path:
    """The trained run: 12 steps, beside its recipe teacher.yaml."""
    return trained_run


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that the code of a test would write; it must be missing after the test."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "code ran"
