"""Students of the trained run, which the tests of the commands share; no test changes them."""

from pathlib import Path

import pytest

from tests.helpers.distillation import FLOW, STUDENT, distill_argv
from textflow.cli.app import main


@pytest.fixture(scope="session")
def teacher(trained_run: Path) -> Path:
    """The trained run, beside recipes for its students."""
    (trained_run.parent / "students.yaml").write_text(STUDENT)
    (trained_run.parent / "flow.yaml").write_text(FLOW)
    return trained_run


@pytest.fixture(scope="session")
def students(teacher: Path) -> Path:
    """Folder of two rounds of distillation."""
    assert main(distill_argv(teacher, teacher.parent / "students")) == 0
    return teacher.parent / "students"
