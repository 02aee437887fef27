"""Training: trainer, optimizer, EMA, callbacks, checkpoints and loggers."""

from textflow.training.ema import EMA as EMA
from textflow.training.engines import FSDP as FSDP
from textflow.training.engines import Zero as Zero
from textflow.training.callbacks.periodic import PeriodicCallback as PeriodicCallback
from textflow.training.loggers import MetricsCSVLogger as MetricsCSVLogger
from textflow.training.optim import MuonAdam as MuonAdam
from textflow.training.callbacks.progress import CpuClock as CpuClock
from textflow.training.callbacks.progress import StepProgressBar as StepProgressBar
from textflow.training.callbacks.progress import Throughput as Throughput
from textflow.training.callbacks.sample_logger import SampleLogger as SampleLogger
from textflow.training.callbacks.checkpointing import CheckpointCallback as CheckpointCallback
from textflow.training.lr_schedule import WarmupLR as WarmupLR
from textflow.training.callbacks.reseed import ReseedEachBatch as ReseedEachBatch
from textflow.training.checkpoint_io import latest_state as latest_state
from textflow.training.loggers import make_loggers as make_loggers
from textflow.training.trainer import Trainer as Trainer
