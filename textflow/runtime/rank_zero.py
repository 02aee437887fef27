"""Messages of the first process, with or without Lightning, which is slow to import."""

import logging
import os
import sys

from lightning_utilities.core import rank_zero
from lightning_utilities.core.rank_zero import rank_zero_info as rank_zero_info
from lightning_utilities.core.rank_zero import rank_zero_only as rank_zero_only
from lightning_utilities.core.rank_zero import rank_zero_warn as rank_zero_warn

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # as Lightning reads them


def use_without_lightning() -> None:
    """Set the rank that Lightning would set, and show messages until it is imported and shows them itself."""
    if getattr(rank_zero_only, "rank", None) is None:
        rank = next((int(os.environ[name]) for name in RANK_VARIABLES if name in os.environ), 0)
        setattr(rank_zero_only, "rank", rank)  # noqa: B010
    if "lightning.fabric" not in sys.modules:
        rank_zero.log.addHandler(logging.StreamHandler())
        rank_zero.log.setLevel(logging.INFO)


use_without_lightning()
