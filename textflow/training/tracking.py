"""The loggers of a run: its metrics.csv, and Weights & Biases."""

import netrc
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only

from textflow.runtime.atomic import replace_text
from textflow.training.loggers import Metrics, step_done


class Wandb(WandbLogger):
    """Lightning's logger, with steps counted as in checkpoints and a W&B run that ends when the fit ends."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._wandb_init.pop("anonymous", None)  # wandb warns of it whatever it says

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs against the number of optimizer steps done."""
        super().log_metrics(metrics, step_done(step))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the W&B run, so that a second fit in this process gets its own; logging again continues this one."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def loggers(run: Path, wandb: bool = True, project: str = "textflow", group: str | None = None) -> list[Logger]:
    """The loggers of a run.

    Args:
        run: the run folder.
        wandb: also log to Weights & Biases.
        project: its project there.
        group: of runs there, in which this one's job is the name of its folder.
    """
    if not wandb:
        return [Metrics(run)]
    return [Metrics(run), wandb_logger(run, project, **({"group": group, "job_type": run.name} if group else {}))]


def wandb_logger(run: Path, project: str = "textflow", **settings: Any) -> Wandb:
    """A W&B logger that continues the run's W&B run; offline where no key is configured.

    Args:
        run: the run folder; its name names the W&B run, and RUN/wandb_id keeps the id.
        project: W&B project.
        settings: more arguments of wandb.init, such as entity, tags or mode.
    """
    mode = settings.pop("mode", None) or os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    if mode in ("offline", "dryrun"):
        rank_zero_info(
            f"W&B is offline: logs stay in {run}/wandb (after `wandb login`: wandb sync {run}/wandb/offline*)"
        )
    run.mkdir(parents=True, exist_ok=True)
    made = None if getattr(rank_zero_only, "rank", 0) else _identity(run)  # the other ranks log nothing there
    return Wandb(name=run.name, project=project, save_dir=run, id=made, mode=mode, **settings)


def has_key() -> bool:
    """Whether a W&B key is configured, in WANDB_API_KEY or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _identity(run: Path) -> str:
    file = run / "wandb_id"
    if not file.exists():
        replace_text(file, secrets.token_hex(4) + "\n")
    found = file.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[\w.-]{1,64}", found, re.ASCII):
        raise ValueError(f"{file} holds {found[:40]!r}, which is no W&B id; remove it to begin another W&B run")
    return found
