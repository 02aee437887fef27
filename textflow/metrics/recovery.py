"""Token recovery: share of a text's tokens that are decoded correctly from its (noisy) latents."""

from jaxtyping import Float
from torch import Tensor

from textflow.metrics.intervals import Interval, bootstrap, ratio
from textflow.types import Ids, Mask


def num_recovered(decoded_ids: Ids, ids: Ids, mask: Mask) -> Float[Tensor, " B"]:
    """Number of correctly decoded tokens of each row, float64; the mask is True where ids are text."""
    return ((decoded_ids == ids) & mask).sum(1).double()


def token_recovery(decoded_ids: Ids, ids: Ids, mask: Mask, level: float = 0.95) -> Interval:
    """Share of correctly decoded tokens, over all rows.

    Args:
        decoded_ids: decoded tokens.
        ids: original tokens.
        mask: True where ids are text.
        level: confidence of the interval, in (0, 1).
    """
    return bootstrap(ratio(num_recovered(decoded_ids, ids, mask), mask.sum(1)), len(ids), level)
