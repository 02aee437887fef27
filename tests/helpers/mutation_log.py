"""Results of mutations, kept from run to run."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.helpers.processes import ROOT


class MutationLog:
    """Results of the mutations of one test, a JSON line each; one that passed before is not run again.

    The folder of the environment variable MUTATIONS_LOG keeps a file for each test; without it nothing is kept.

    Args:
        home: folder of the files that are mutated, whose name differs from run to run.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.tree = str(home), hash_of_tree()
        name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].partition("[")[0]
        self.file = Path(os.environ["MUTATIONS_LOG"]) / f"{name}.jsonl" if "MUTATIONS_LOG" in os.environ else None
        self.passed: set[str] = set()
        for line in self.file.read_text().splitlines() if self.file and self.file.is_file() else []:
            with suppress(ValueError):  # the last line of a killed run
                record = json.loads(line)
                self.passed |= {record["mutant"]} if not record["failure"] else set()

    def key(self, mutant: Any) -> str:
        """Hash of a mutation."""
        return hashlib.sha256(repr(mutant).replace(self.home, "HOME").encode()).hexdigest()[:24]

    def write(self, key: str, failure: str, seconds: float) -> None:
        """Append the result of a mutation; an empty failure for none."""
        if self.file:
            record = {"mutant": key, "tree": self.tree, "seconds": round(seconds, 3), "failure": failure}
            with self.file.open("a") as file:
                file.write(json.dumps(record) + "\n")


def hash_of_tree() -> str:
    """Hash of the source of textflow."""
    files = (path for folder in ("textflow", "cli", "eval") for path in sorted((ROOT / folder).rglob("*.py")))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
