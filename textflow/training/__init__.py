"""How things are trained: Trainable, its optimizer, its average, its checkpoints and its logs."""

from .ema import Average as Average
from .engines import FSDP as FSDP
from .engines import Zero as Zero
from .every import Every as Every
from .log import Metrics as Metrics
from .module import Trainable as Trainable
from .optim import MuonAdam as MuonAdam
from .progress import Progress as Progress
from .progress import Speed as Speed
from .samples import Samples as Samples
from .save import Save as Save
from .schedule import Warmup as Warmup
from .seeds import Seeds as Seeds
from .still import still as still
from .state import latest as latest
from .tracking import loggers as loggers
from .tracking import wandb_logger as wandb_logger
from .trainer import Trainer as Trainer
