"""A process that forks commands, shared by the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.faults.commands import Commands


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    process = Commands()
    yield process
    process.close()
