"""A file that is replaced is whole or as it was, whoever else writes beside it."""

import os
import subprocess
import sys
from pathlib import Path
from stat import S_IMODE

import pytest
import torch

from textflow.runtime.atomic import LOCK_NAME, atomic_write, atomic_write_text, temporary_path
from textflow.training.weights import write_weights

KILLED = """
import os, sys
from pathlib import Path
from textflow.runtime.atomic import atomic_write

def write(path):
    path.write_text("half")
    (path.parent / ".tmpofYdfg").write_text("what safetensors writes first")
    os.kill(os.getpid(), 9)

atomic_write(Path(sys.argv[1]), write)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kill(path: Path) -> None:
    """A process is killed while it writes a file."""
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with temporary_path(path) as one, temporary_path(path) as two:
        assert one != two
        one.write_text("one")
        atomic_write_text(path, "another")
        assert one.read_text() == "one" and path.read_text() == "another"
    assert names(tmp_path) == ["file.txt"]


def test_a_link_in_the_place_of_an_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    path, precious = tmp_path / "file.txt", tmp_path / "precious.txt"
    precious.write_text("precious")
    for name in (".file.txt.tmp", f".file.txt.{os.getpid()}-{'0' * 16}.tmp"):
        (tmp_path / name).symlink_to(precious)
    atomic_write_text(path, "new")
    assert precious.read_text() == "precious" and path.read_text() == "new" and not path.is_symlink()


def test_a_linked_folder_in_its_place_is_not_emptied(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in (LOCK_NAME, "precious.txt"):
        (other / name).touch()
    (tmp_path / f".file.txt.1-{'0' * 16}.tmp").symlink_to(other)
    atomic_write_text(tmp_path / "file.txt", "new")
    assert names(other) == [LOCK_NAME, "precious.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_a_file_has_the_rights_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        atomic_write_text(tmp_path / "text", "text")
        write_weights(tmp_path / "weights", {"a": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert [S_IMODE((tmp_path / name).stat().st_mode) for name in ("text", "weights")] == [0o666 & ~mask] * 2


def test_what_cannot_be_written_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write(made: Path) -> None:
        made.write_text("half")
        raise OSError(28, "No space left on device", str(made))

    with pytest.raises(OSError, match="No space left") as found:
        atomic_write(path, write)
    assert found.value.filename == str(path) and path.read_text() == "before" and names(tmp_path) == ["file.txt"]
    with pytest.raises(FileNotFoundError) as missing:
        atomic_write_text(tmp_path / "gone" / "file.txt", "new")
    assert missing.value.filename == str(tmp_path / "gone" / "file.txt")


@pytest.mark.integration
def test_what_killed_writers_leave_goes_with_the_next_file(tmp_path: Path) -> None:
    kill(tmp_path / "first.txt")
    assert len(names(tmp_path)) == 1
    kill(tmp_path / "second.txt")
    assert len(names(tmp_path)) == 1
    (tmp_path / ".mine.tmp").touch()
    with temporary_path(tmp_path / "third.txt") as held:
        held.write_text("third")
        atomic_write_text(tmp_path / "first.txt", "whole")
        assert held.read_text() == "third"
    assert names(tmp_path) == [".mine.tmp", "first.txt"]


def test_a_long_name_is_no_error(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / ("\u00e9" * 120), "text")
    assert (tmp_path / ("\u00e9" * 120)).read_text() == "text"
