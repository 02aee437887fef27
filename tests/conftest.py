"""One thread: with other work on the cores, two are far slower; and no network."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

gc.disable()  # until the tests are collected: it takes a third of the imports' time and frees nothing
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"

import pytest  # noqa: E402

from tests.helpers import recordings  # noqa: E402
from tests.helpers.processes import Commands, skip_fsync  # noqa: E402
from tests.helpers.user_errors import fails  # noqa: E402, F401

os.fsync = skip_fsync
# Each torch.manual_seed queues a seed, with the formatted stack, for three devices that are not here: 1 ms to 3 ms.
NO_STACK = SimpleNamespace(format_stack=list)


@pytest.fixture(autouse=True)
def default_hangup() -> Iterator[None]:
    """SIGHUP with its default action, also where the tests run under nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


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
    if config.getoption("dist", "no") == "no":  # else this process only hands the tests to others, without torch
        import torch

        torch.set_num_threads(1)
        if not torch.cuda.is_available():
            for device in (torch.cuda, torch.mtia, torch.xpu):
                vars(device)["traceback"] = NO_STACK


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with integration tests first: of two processes, none then ends long after the other."""
    slow_files = {item.path for item in items if item.get_closest_marker("integration")}
    items.sort(key=lambda item: item.path not in slow_files)


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what was imported, and ten times less often."""
    gc.freeze()
    gc.set_threshold(7000, 10, 10)
    gc.enable()


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of the tiny teacher after 12 steps, beside its recipe teacher.yaml; no test changes it."""
    from tests.helpers.tiny_recipe import write_recipe
    from textflow.cli.app import main

    folder = tmp_path_factory.mktemp("trained")
    assert main(["fit", str(write_recipe(folder))]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A process that forks commands, one for all workers."""
    folder = tmp_path_factory.getbasetemp()
    process = Commands(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
    yield process
    process.close()
