"""The .jsonl file of `textflow sample`: locking, resuming and validation."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def open_locked(out: Path) -> Iterator[IO[str]]:
    """Open a file for appending under a lock, so that two commands cannot write into it; create its folder."""
    from textflow.runtime.atomic import lock_file

    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        try:
            if out.is_file():  # not a terminal or /dev/null
                lock_file(file)
        except BlockingIOError as error:
            advice = "wait for it, or choose another file with --out"
            raise ValueError(f"another `textflow sample` is writing into {out}; {advice}") from error
        except OSError:
            print(f"{out} is on a file system without locks: no other command may write into it", file=sys.stderr)
        yield file


def count_written(out: Path, settings: dict[str, Any]) -> int:
    """Count the texts in a .jsonl file, which must have these settings, and truncate an incomplete last line."""
    if not out.is_file():
        return 0
    *lines, incomplete = out.read_bytes().split(b"\n")  # bytes: U+2028 is not a line end, and a character may be cut
    for number, line in enumerate(lines):
        check_line(out, number, line, settings)
    prefix = f'{{"index": {len(lines)}, "text": "'.encode()
    if not incomplete.startswith(prefix[: len(incomplete)]):
        raise ValueError(f"{out} is not a file of textflow samples; choose another file with --out")
    if incomplete:
        os.truncate(out, sum(len(line) + 1 for line in lines))
    return len(lines)


def check_line(out: Path, index: int, line: bytes, settings: dict[str, Any]) -> None:
    """Raise a ValueError unless a line, without its line end, holds the text of this index and these settings."""
    advice = "choose another file with --out"
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "index" not in record:
        raise ValueError(f"{out} is not a file of textflow samples; {advice} (see line {index + 1})")
    changed = [f"{key} {record.get(key)} -> {value}" for key, value in settings.items() if record.get(key) != value]
    if changed:
        raise ValueError(f"{out}:{index + 1} was sampled with other settings ({', '.join(changed)}); {advice}")
    if record["index"] != index:
        mismatch = f"{out}:{index + 1} holds text {record['index']} where text {index} is expected"
        raise ValueError(f"{mismatch}: two commands wrote into it, or lines were removed; {advice}")
