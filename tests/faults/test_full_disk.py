"""A disk that is full or cannot be written: a named error, the last checkpoint whole, and on once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.helpers.bitwise import is_same
from tests.helpers.processes import Commands, Done
from tests.helpers.tiny_recipe import write_recipe
from textflow.training import latest_state
from textflow.training.checkpoint_io import find_damage, list_states
from textflow.training.weights import read_weights

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fit_argv(folder: Path, run: Path, steps: int) -> list[str]:
    every = ["--run.folder", str(run), "--run.save_every", "2", "--trainer.enable_progress_bar", "false"]
    return ["fit", str(folder / "teacher.yaml"), *every, "--trainer.max_steps", str(steps)]


def fill(disk: Path, left: int) -> None:
    """Leaves so many bytes free."""
    (disk / "filler").unlink(missing_ok=True)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(max(free - left, 0)))


def one_line(done: Done) -> str:
    """The error of a command that failed as it should."""
    assert done.code == 2 and not done.late and "Traceback" not in done.err, (done.code, done.err)
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("textflow fit: "), done.err
    return line


def untouched(run: Path, step: int) -> None:
    """What stood in the run before is whole, and nothing half-written is beside it."""
    assert latest_state(run) is not None and all(find_damage(state) is None for state in list_states(run))
    assert int(read_weights(run / "model.safetensors")[1]["step"]) >= step
    assert not [path for path in run.rglob(".*.tmp")]


def same(run: Path, complete: Path) -> None:
    assert is_same(*(load_file(folder / "model.safetensors") for folder in (run, complete)))


def remount(disk: Path, how: str) -> None:
    """Read only (ro), or not (rw)."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@pytest.fixture(scope="module")
def home(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its cache, and an undisturbed run of twelve steps."""
    folder = tmp_path_factory.mktemp("home")
    write_recipe(folder)
    assert commands.run(*fit_argv(folder, folder / "whole", 12)).code == 0
    return folder


@pytest.mark.parametrize("codec", ["unfitted", "fitted"])
def test_a_disk_that_is_full_from_the_start_is_named(commands: Commands, home: Path, disk: Path, codec: str) -> None:
    run = disk / "run"
    if codec == "fitted":
        assert commands.run(*fit_argv(home, run, 2)).code == 0
    for left in (0, 4096, 8192, 20000):
        fill(disk, left)
        line = one_line(commands.run(*fit_argv(home, run, 12)))
        assert "No space left" in line and str(disk) in line
    (disk / "filler").unlink()
    assert commands.run(*fit_argv(home, run, 12)).code == 0
    same(run, home / "whole")


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(commands: Commands, home: Path, disk: Path) -> None:
    run, failed = disk / "run", 0
    assert commands.run(*fit_argv(home, run, 2)).code == 0
    size = sum(path.stat().st_size for path in (run / "state").rglob("*") if path.is_file())
    for left in range(30000, 3 * size, size // 4):
        fill(disk, left)
        done = commands.run(*fit_argv(home, run, 12))
        (disk / "filler").unlink()
        if not done.code:
            break
        line, failed = one_line(done), failed + 1
        assert "No space left" in line and (str(run) in line), line
        untouched(run, 2)
    assert failed > 2
    assert commands.run(*fit_argv(home, run, 12)).code == 0
    same(run, home / "whole")


def test_a_full_disk_leaves_no_half_of_a_cache(commands: Commands, home: Path, disk: Path, tmp_path: Path) -> None:
    cache = ["--data.cache", str(disk / "cache")]
    size = sum(path.stat().st_size for path in (home / "cache").rglob("*") if path.is_file())
    for share in (0.0, 0.1, 0.3, 0.5, 0.8):
        fill(disk, int(share * size))
        line = one_line(commands.run(*fit_argv(home, tmp_path / "run", 12), *cache))
        assert "cannot write the cache" in line and "No space left" in line, line
    (disk / "filler").unlink()
    assert commands.run(*fit_argv(home, tmp_path / "run", 12), *cache).code == 0
    same(tmp_path / "run", home / "whole")


@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_that_cannot_be_written_is_named(commands: Commands, home: Path, disk: Path, begun: bool) -> None:
    run = disk / "run"
    if begun:
        assert commands.run(*fit_argv(home, run, 4)).code == 0
    remount(disk, "ro")
    line = one_line(commands.run(*fit_argv(home, run, 12)))
    assert "Read-only file system" in line and str(run) in line
    remount(disk, "rw")
    if begun:
        untouched(run, 4)
    assert commands.run(*fit_argv(home, run, 12)).code == 0
    same(run, home / "whole")
