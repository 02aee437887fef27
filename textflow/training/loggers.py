"""The loggers of a run: MetricsCSVLogger, which writes RUN/metrics.csv, and Weights & Biases."""

import csv
import io
import re
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger

from textflow.runtime.atomic import atomic_write_text
from textflow.runtime.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn
from textflow.training.wandb_server import WANDB_SECONDS, is_reachable, wandb_mode, wandb_url

HEADER = "step,name,value\n"


class MetricsCSVLogger(Logger):
    """Append rows step,name,value to RUN/metrics.csv; step is the number of completed optimizer steps.

    Args:
        run: the run folder.
    """

    def __init__(self, run: Path | str) -> None:
        super().__init__()
        self.path = Path(run) / "metrics.csv"

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""  # a run has one log

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Do nothing, since recipe.yaml holds the hyperparameters."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | int], step: int | None = None) -> None:
        """Append one row per metric, except Lightning's `epoch`; `step` is Lightning's step index, from 0."""
        rows = io.StringIO()
        values = [(step_done(step), name, repr(float(value))) for name, value in metrics.items() if name != "epoch"]
        csv.writer(rows, lineterminator="\n").writerows(values)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(("" if file.tell() else HEADER) + rows.getvalue())
        except OSError as error:
            error.filename = str(self.path)  # ENOSPC has no file name
            raise

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop rows after a number of completed steps and an incomplete last row, so that a resumed run has no
        duplicate rows."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[1:]
        complete = [(line.split(",", 1)[0], line) for line in lines if line.endswith("\n")]
        rows = [line for first, line in complete if first.isdigit() and int(first) <= step]
        atomic_write_text(self.path, HEADER + "".join(rows))


def step_done(step: int | None) -> int:
    """Number of completed steps: Lightning's step index plus 1, as in checkpoint names."""
    return 0 if step is None else step + 1


class Wandb(WandbLogger):
    """Lightning's logger, with steps counted as in checkpoints and a W&B run that ends when the fit ends."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._wandb_init.pop("anonymous", None)  # wandb warns about this argument for any value

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run; offline where W&B does not answer or refuses it, since a log must not end a training."""
        import wandb

        try:
            return super().experiment
        except wandb.Error as error:
            if self._wandb_init["mode"] == "offline":
                raise
            rank_zero_warn(f"W&B cannot start ({' '.join(str(error).split())[:200]}): it is offline")
            self._wandb_init["mode"] = "offline"
            return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log against the number of completed optimizer steps."""
        super().log_metrics(metrics, step_done(step))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the W&B run, so that a second fit in this process starts its own; further logging resumes this one."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def make_loggers(run: Path, wandb: bool = True, project: str = "textflow", group: str | None = None) -> list[Logger]:
    """The loggers of a run.

    Args:
        run: the run folder.
        wandb: also log to Weights & Biases.
        project: W&B project.
        group: W&B group of the run; the job type is the name of the run folder.
    """
    settings = {"group": group, "job_type": run.name} if group else {}
    return [MetricsCSVLogger(run), *([make_wandb_logger(run, project, **settings)] if wandb else [])]


def make_wandb_logger(run: Path, project: str = "textflow", **settings: Any) -> Wandb:
    """A W&B logger that continues the run's W&B run; offline where no key is configured or the server does not answer.

    Args:
        run: the run folder; its name names the W&B run, and RUN/wandb_id keeps the id.
        project: W&B project.
        settings: additional arguments of wandb.init, such as entity, tags or mode.
    """
    mode, url = settings.pop("mode", None) or wandb_mode(), wandb_url()
    reason = "W&B is offline"
    if mode in ("online", "run") and not is_reachable(url):
        mode, reason = "offline", f"{url} does not answer within {WANDB_SECONDS:.0f} s, so W&B is offline"
    if mode in ("offline", "dryrun"):
        logs = shlex.quote(f"{run}/wandb")
        rank_zero_info(f"{reason}: logs stay in {run}/wandb (after `wandb login`: wandb sync {logs}/offline*)")
    run.mkdir(parents=True, exist_ok=True)
    run_id = None if getattr(rank_zero_only, "rank", 0) else _identity(run)  # the other ranks log nothing there
    return Wandb(name=run.name, project=project, save_dir=run, id=run_id, mode=mode, **settings)


def _identity(run: Path) -> str:
    file = run / "wandb_id"
    if not file.exists():
        atomic_write_text(file, secrets.token_hex(4) + "\n")
    run_id = file.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[\w.-]{1,64}", run_id, re.ASCII):
        raise ValueError(f"{file} holds {run_id[:40]!r}, which is not a W&B id; remove it to start a new W&B run")
    return run_id
