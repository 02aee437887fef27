"""Where the rows of a kind are, and what of them is asked."""

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textflow.runtime.distributed import place
from textflow.types import Latents, Rows

Places: TypeAlias = Int[Tensor, " n"]  # indices of some rows, in order


def in_many() -> bool:
    """Whether other processes train the same net: then all of them ask it equally often, of no rows too, since they
    exchange its parts at each call."""
    return place()[1] > 1


class Asked(NamedTuple):
    """Tokens whose log p is asked.

    Args:
        hidden: their states.
        ids: what they are.
        each: how much each counts; None is 1.
    """

    hidden: Float[Tensor, "n width"]
    ids: Int[Tensor, " n"]
    each: Float[Tensor, " n"] | None


def asked(hidden: Tensor, ids: Tensor, each: Tensor, whole: bool) -> Asked:
    """All tokens of some rows, which is a shape known beforehand, or only those that count.

    Args:
        hidden: states [n, S, width].
        ids: tokens [n, S].
        each: how much each counts [n, S]; a mask counts 1 and 0.
        whole: whether all are taken.
    """
    if whole:
        return Asked(hidden.flatten(0, 1), ids.flatten(), each.flatten().to(hidden.dtype))
    some = each != 0
    return Asked(hidden[some], ids[some], each[some].to(hidden.dtype) if each.is_floating_point() else None)


def places(rows: Rows, count: int | None = None) -> Places:
    """Indices of the rows that are True; the host does not wait for a GPU where it knows how many there are.

    Args:
        rows: True on those that are wanted.
        count: their number, where it is known.
    """
    if count is None:
        return rows.nonzero()[:, 0]
    return (~rows).int().sort(stable=True).indices[:count]


def among(some: Places, z: Latents) -> Rows:
    """True on some of the rows of z."""
    return torch.zeros(len(z), dtype=torch.bool, device=z.device).index_fill(0, some, True)


def none(z: Latents) -> Places:
    """No row of z."""
    return torch.empty(0, dtype=torch.long, device=z.device)
