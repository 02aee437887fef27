"""How things are trained: Trainable, its optimizer, its average, its checkpoints and its logs."""

from textflow.training.ema import Average as Average
from textflow.training.engines import FSDP as FSDP
from textflow.training.engines import Zero as Zero
from textflow.training.callbacks.periodic import Every as Every
from textflow.training.loggers import Metrics as Metrics
from textflow.training.optim import MuonAdam as MuonAdam
from textflow.training.callbacks.progress import Progress as Progress
from textflow.training.callbacks.progress import Speed as Speed
from textflow.training.callbacks.sample_logger import Samples as Samples
from textflow.training.callbacks.checkpointing import Save as Save
from textflow.training.lr_schedule import Warmup as Warmup
from textflow.training.callbacks.reseed import Seeds as Seeds
from textflow.training.eval_mode import still as still
from textflow.training.checkpoint_io import latest as latest
from textflow.training.tracking import loggers as loggers
from textflow.training.tracking import wandb_logger as wandb_logger
from textflow.training.trainer import Trainer as Trainer
