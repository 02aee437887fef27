"""A situation of tests/faults/situations.yaml: its files, and its command in a fork, with what its process meets."""

import bz2
import gzip
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.processes import ROOT

OPENERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def write_file(path: Path, content: Any) -> None:
    """Write a file of a situation: text, bytes, or `each` (a text with %d for a number) `count` times in `encoding`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        text = "".join(content["each"].replace("%d", str(i)) for i in range(content.get("count", 1)))
        content = (content.get("start", "") + text).encode(content.get("encoding", "utf-8"))
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(OPENERS.get(path.suffix, bytes)(data))


def main(words: list[str]) -> int:
    """Run `textflow` with arguments, environment variables, and an output to a closed pipe or a full disk, or in a
    locale without UTF-8; words: JSON."""
    situation = json.loads(words[0])
    os.environ.update(situation["environment"])
    if situation["pipe"]:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    if situation["full"]:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if situation["ascii"]:
        os.environ |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
        os.execv(sys.executable, [sys.executable, "-m", "textflow.cli.app", *situation["words"]])
    sys.argv = ["textflow", *situation["words"]]
    from textflow.cli.app import main as textflow

    return textflow(situation["words"])
