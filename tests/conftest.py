"""One thread: with other work on the cores, two are far slower; and no network."""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.commands import Commands  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """A process that forks commands."""
    process = Commands()
    yield process
    process.close()
