"""Many processes: DDP, ZeRO and FSDP give the numbers of one."""

from textflow.training.engines.distributed_muon import Spread as Spread
from textflow.training.engines.fsdp import FSDP as FSDP
from textflow.training.engines.compatibility import refuse_strategy as refuse_strategy
from textflow.training.engines.zero import Zero as Zero
