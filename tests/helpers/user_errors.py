"""Errors of a user: one line of a command, or a ValueError of a function."""

from collections.abc import Callable
from typing import Any

import pytest

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Require that a command ends with 2 and an error in one line that holds these texts; return the line."""

    def check(argv: list[str], *texts: str) -> str:
        from textflow.cli.app import main  # here, after jaxtyping has hooked the imports of textflow

        capsys.readouterr()
        assert main(argv) == 2, argv
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.strip() and "it/s]" not in line]  # without lines of progress bars
        assert len(errors) == 1 and all(text in errors[0] for text in texts), lines
        return errors[0]

    return check


def refused(match: str, function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Require that a call raises a ValueError whose message matches."""
    with pytest.raises(ValueError, match=match):
        function(*args, **options)
