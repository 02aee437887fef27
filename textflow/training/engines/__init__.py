"""Many processes: DDP, ZeRO and FSDP give the numbers of one."""

from .exchange import Spread as Spread
from .fsdp import FSDP as FSDP
from .refuse import refuse_strategy as refuse_strategy
from .zero import Zero as Zero
