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
        error = capsys.readouterr().err.strip()  # without the line of a progress bar
        assert "\n" not in error and all(text in error for text in texts), error
        return error

    return check


def refused(match: str, function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Require that a call raises a ValueError whose message matches."""
    with pytest.raises(ValueError, match=match):
        function(*args, **options)
