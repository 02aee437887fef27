"""Where the rows of a kind are, and what of them is asked."""

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.runtime.distributed import rank_and_world_size
from textflow.types import Latents, RowMask

RowIndices: TypeAlias = Int[Tensor, " n"]  # indices of some rows, in order


def is_distributed() -> bool:
    """Whether other processes train the same net: then all of them ask it equally often, of no rows too, since they
    exchange its parts at each call."""
    return rank_and_world_size()[1] > 1


class SelectedTokens(NamedTuple):
    """Tokens whose log p is asked.

    Args:
        hidden: their states.
        ids: what they are.
        weights: how much each counts; None is 1.
    """

    hidden: Float[Tensor, "n width"]
    ids: Int[Tensor, " n"]
    weights: Float[Tensor, " n"] | None


def select_tokens(hidden: Tensor, ids: Tensor, weights: Tensor, fixed_shape: bool) -> SelectedTokens:
    """All tokens of some rows, which is a shape known beforehand, or only those that count.

    Args:
        hidden: states [n, S, width].
        ids: tokens [n, S].
        weights: how much each counts [n, S]; a mask counts 1 and 0.
        fixed_shape: whether all are taken.
    """
    if fixed_shape:
        return SelectedTokens(hidden.flatten(0, 1), ids.flatten(), weights.flatten().to(hidden.dtype))
    some = weights != 0
    return SelectedTokens(
        hidden[some], ids[some], weights[some].to(hidden.dtype) if weights.is_floating_point() else None
    )


def row_indices(rows: RowMask, count: int | None = None) -> RowIndices:
    """Indices of the rows that are True; the host does not wait for a GPU where it knows how many there are.

    Args:
        rows: True on those that are wanted.
        count: their number, where it is known.
    """
    if count is None:
        return rows.nonzero()[:, 0]
    return (~rows).int().sort(stable=True).indices[:count]


def row_mask(some: RowIndices, z: Latents) -> RowMask:
    """True on some of the rows of z."""
    return torch.zeros(len(z), dtype=torch.bool, device=z.device).index_fill(0, some, True)


def no_rows(z: Latents) -> RowIndices:
    """No row of z."""
    return torch.empty(0, dtype=torch.long, device=z.device)
