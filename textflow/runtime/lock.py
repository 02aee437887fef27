"""Locks between processes, on file systems that have them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from textflow.runtime.rank_zero import rank_zero_warn

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)  # as some network file systems answer


@contextmanager
def hold_lock(file: Path, seconds: float = -1) -> Iterator[None]:
    """Hold a lock; where the file system has none, warn that nothing keeps a second command out.

    Args:
        file: lock file, which is made.
        seconds: longest wait for another process that holds the lock; -1 waits without end.

    Raises:
        filelock.Timeout: if another process held the lock for so long.
    """
    lock = FileLock(file, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        advice = "let no other textflow command write there meanwhile"
        rank_zero_warn(f"{file.parent} is on a file system without locks ({error.strerror}): {advice}")
    try:
        yield
    finally:
        lock.release()
