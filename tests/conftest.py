"""One thread: with other work on the cores, two are far slower; and no network."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.helpers import recordings  # noqa: E402
from tests.helpers.processes import Commands, skip_fsync  # noqa: E402
from tests.helpers.user_errors import fails  # noqa: E402, F401

torch.set_num_threads(1)
os.fsync = skip_fsync


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--recorded",
        type=Path,
        default=recordings.ASSETS,
        metavar="FOLDER",
        help="recordings that the parity tests compare with (default: tests/assets); write --recorded=FOLDER",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Some tests are made from what a recording says, so its folder is known before they are collected."""
    recordings.use(config.getoption("--recorded"))


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """A process that forks commands."""
    process = Commands()
    yield process
    process.close()
