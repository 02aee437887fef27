"""Distributed training with DDP, ZeRO and FSDP, numerically equivalent to one process."""

from textflow.training.engines.distributed_muon import DistributedMuonCallback as DistributedMuonCallback
from textflow.training.engines.fsdp import FSDP as FSDP
from textflow.training.engines.compatibility import refuse_strategy as refuse_strategy
from textflow.training.engines.zero import Zero as Zero
