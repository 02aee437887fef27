"""A replaced file is either complete or unchanged, also with several writers."""

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


def test_two_writers_of_one_file_do_not_interfere(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with temporary_path(path) as one, temporary_path(path) as two:
        assert one != two
        one.write_text("one")
        atomic_write_text(path, "another")
        assert one.read_text() == "one" and path.read_text() == "another"
    assert names(tmp_path) == ["file.txt"]
    atomic_write_text(tmp_path / ("\u00e9" * 120), "text")  # a long name
    assert (tmp_path / ("\u00e9" * 120)).read_text() == "text"


def test_a_link_with_the_name_of_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    path, precious = tmp_path / "file.txt", tmp_path / "precious.txt"
    precious.write_text("precious")
    for name in (".file.txt.tmp", f".file.txt.{os.getpid()}-{'0' * 16}.tmp"):
        (tmp_path / name).symlink_to(precious)
    atomic_write_text(path, "new")
    assert precious.read_text() == "precious" and path.read_text() == "new" and not path.is_symlink()


def test_a_linked_folder_with_the_name_of_a_temporary_one_is_not_emptied(tmp_path: Path) -> None:
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


def test_a_failed_write_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")

    def write(made: Path) -> None:
        made.write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device", str(made))

    with pytest.raises(OSError, match="No space left") as full:
        atomic_write(path, write)
    assert full.value.filename == str(path) and path.read_text() == "before" and names(tmp_path) == ["file.txt"]
    with pytest.raises(FileNotFoundError) as missing:
        atomic_write_text(tmp_path / "gone" / "file.txt", "new")
    assert missing.value.filename == str(tmp_path / "gone" / "file.txt")


@pytest.mark.integration
def test_files_of_killed_writers_are_removed_with_the_next_write(tmp_path: Path) -> None:
    for name in ("first.txt", "second.txt"):
        assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)]).returncode == -9
        assert len(names(tmp_path)) == 1
    (tmp_path / ".mine.tmp").touch()
    with temporary_path(tmp_path / "third.txt") as third:
        third.write_text("third")
        atomic_write_text(tmp_path / "first.txt", "whole")
        assert third.read_text() == "third"
    assert names(tmp_path) == [".mine.tmp", "first.txt"]
