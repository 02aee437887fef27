"""Locks between processes, and file systems that have none."""

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from textflow.runtime.lock import hold_lock


def without_locks(number: int) -> Any:
    """Stands for fcntl.flock on a file system without locks."""

    def answer(*args: Any) -> None:
        raise OSError(number, "No locks available")

    return answer


def test_a_lock_that_is_held_is_not_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with hold_lock(tmp_path / "lock", seconds=0), pytest.raises(Timeout), hold_lock(tmp_path / "lock", seconds=0):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_used(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(number))
    with pytest.warns(UserWarning, match=f"{tmp_path} is on a file system without locks"), hold_lock(tmp_path / "lock"):
        pass


def test_another_fault_of_a_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(errno.EIO))
    with pytest.raises(OSError), hold_lock(tmp_path / "lock"):
        pass
