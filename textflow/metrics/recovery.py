"""Token recovery: how much of a text is read back out of its (noisy) latents."""

from jaxtyping import Float
from torch import Tensor

from textflow.metrics.intervals import Interval, bootstrap, ratio
from textflow.types import Ids, Mask


def recovered(found: Ids, ids: Ids, mask: Mask) -> Float[Tensor, " B"]:
    """Number of tokens of each row that were found again, float64.

    Args:
        found: tokens that were read.
        ids: tokens that were written.
        mask: True where ids are text.
    """
    return ((found == ids) & mask).sum(1).double()


def token_recovery(found: Ids, ids: Ids, mask: Mask, level: float = 0.95) -> Interval:
    """Tokens found again / tokens, over all rows.

    Args:
        found: tokens that were read.
        ids: tokens that were written.
        mask: True where ids are text.
        level: confidence of the interval, in (0, 1).
    """
    return bootstrap(ratio(recovered(found, ids, mask), mask.sum(1)), len(ids), level)
