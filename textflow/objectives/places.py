"""Where the rows of a kind are, and what of them is asked."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from textflow.ranks import place


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
