"""Training: trainer, optimizer, EMA, callbacks, checkpoints and loggers."""

from typing import TYPE_CHECKING

from textflow.runtime.lazy import lazy_names
from textflow.training.optim import MuonAdam as MuonAdam
from textflow.training.lr_schedule import WarmupLR as WarmupLR

if TYPE_CHECKING:  # what needs Lightning, imported when it is first used
    from textflow.training.ema import EMA as EMA
    from textflow.training.engines.fsdp import FSDP as FSDP
    from textflow.training.engines.zero import Zero as Zero
    from textflow.training.callbacks.periodic import PeriodicCallback as PeriodicCallback
    from textflow.training.loggers import MetricsCSVLogger as MetricsCSVLogger
    from textflow.training.callbacks.progress import CpuClock as CpuClock
    from textflow.training.callbacks.progress import StepProgressBar as StepProgressBar
    from textflow.training.callbacks.progress import Throughput as Throughput
    from textflow.training.callbacks.sample_logger import SampleLogger as SampleLogger
    from textflow.training.callbacks.checkpointing import CheckpointCallback as CheckpointCallback
    from textflow.training.callbacks.reseed import ReseedEachBatch as ReseedEachBatch
    from textflow.training.checkpoint_io import latest_state as latest_state
    from textflow.training.loggers import make_loggers as make_loggers
    from textflow.training.module import TrainingModule as TrainingModule
    from textflow.training.trainer import Trainer as Trainer

_HOMES = {
    "EMA": "textflow.training.ema",
    "FSDP": "textflow.training.engines.fsdp",
    "Zero": "textflow.training.engines.zero",
    "PeriodicCallback": "textflow.training.callbacks.periodic",
    "MetricsCSVLogger": "textflow.training.loggers",
    "CpuClock": "textflow.training.callbacks.progress",
    "StepProgressBar": "textflow.training.callbacks.progress",
    "Throughput": "textflow.training.callbacks.progress",
    "SampleLogger": "textflow.training.callbacks.sample_logger",
    "CheckpointCallback": "textflow.training.callbacks.checkpointing",
    "ReseedEachBatch": "textflow.training.callbacks.reseed",
    "latest_state": "textflow.training.checkpoint_io",
    "make_loggers": "textflow.training.loggers",
    "TrainingModule": "textflow.training.module",
    "Trainer": "textflow.training.trainer",
}
if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
