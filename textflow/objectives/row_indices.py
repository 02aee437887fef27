"""Indices of the rows of a kind, and their tokens in a loss."""

from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.runtime.distributed import rank_and_world_size
from textflow.types import Latents, RowMask

RowIndices: TypeAlias = Int[Tensor, " n"]  # indices of some rows, in order


def is_distributed() -> bool:
    """True if other processes train the same net: then all of them call it equally often, with no rows too, since they
    exchange its parts at each call."""
    return rank_and_world_size()[1] > 1


def select_tokens(
    hidden: Float[Tensor, "rows S width"], ids: Int[Tensor, "rows S"], weights: Tensor, fixed_shape: bool
) -> tuple[Float[Tensor, "n width"], Int[Tensor, " n"], Float[Tensor, " n"] | None]:
    """Hidden states, ids and weights (None: 1) of the tokens in a loss: of all tokens if the shape is to be fixed, or
    only of those whose weight (or mask) is not 0."""
    if fixed_shape:
        return hidden.flatten(0, 1), ids.flatten(), weights.flatten().to(hidden.dtype)
    valid = weights != 0
    return hidden[valid], ids[valid], weights[valid].to(hidden.dtype) if weights.is_floating_point() else None


def row_indices(rows: RowMask, count: int | None = None) -> RowIndices:
    """Indices of the rows that are True; the host does not wait for a GPU where their number is given in `count`."""
    if count is None:
        return rows.nonzero()[:, 0]
    return (~rows).int().sort(stable=True).indices[:count]


def assign_rows(probability: float, candidates: RowMask, count: int | None) -> RowMask:
    """True on random candidate rows, on each with this probability, or on as many as `count`."""
    order = torch.rand(len(candidates), device=candidates.device)
    if count is None:
        return (order < probability) & candidates
    return order.masked_fill(~candidates, 2.0).argsort().argsort() < count


def row_mask(indices: RowIndices, z: Latents) -> RowMask:
    """True on the rows of z with these indices."""
    return torch.zeros(len(z), dtype=torch.bool, device=z.device).index_fill(0, indices, True)


def no_rows(z: Latents) -> RowIndices:
    """No row of z."""
    return torch.empty(0, dtype=torch.long, device=z.device)
