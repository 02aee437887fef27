"""Metrics: every logged number in RUN/metrics.csv, a row each."""

import csv
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from textflow.runtime.atomic import replace_text

HEADER = "step,name,value\n"


class Metrics(Logger):
    """Appends rows step,name,value to RUN/metrics.csv; step counts the optimizer steps done.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path | str) -> None:
        super().__init__()
        self.path = Path(run) / "metrics.csv"

    @property
    def name(self) -> str:
        """Of the log."""
        return "metrics"

    @property
    def version(self) -> str:
        """None: a run has one log."""
        return ""

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Nothing: recipe.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        """Adds a row for each number.

        Args:
            metrics: numbers by name; Lightning's `epoch` is left out.
            step: index of the step, from 0, as Lightning counts.
        """
        rows = io.StringIO()
        numbers = ((name, value) for name, value in metrics.items() if name != "epoch")
        csv.writer(rows, lineterminator="\n").writerows((step_done(step), name, repr(float(v))) for name, v in numbers)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "a") as file:
                file.write(("" if file.tell() else HEADER) + rows.getvalue())
        except OSError as error:
            error.filename = str(self.path)  # a full disk names no file
            raise

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drops the rows after a step and a torn last row, so that a continued run repeats none.

        Args:
            step: optimizer steps done where the run continues.
        """
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[1:]
        kept = [line for line in lines if line.endswith("\n") and _step(line) <= step]
        replace_text(self.path, HEADER + "".join(kept))


def step_done(step: int | None) -> int:
    """Lightning logs the first step as step 0; here it is 1, as in the names of checkpoints."""
    return 0 if step is None else step + 1


def _step(line: str) -> int:
    first = line.split(",", 1)[0]
    return int(first) if first.isdigit() else sys.maxsize
