"""Self-conditioning: a network is conditioned on its own prediction of an earlier pass (2208.04202)."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.objectives.row_indices import RowIndices
from textflow.types import Conditioning, Latents, Times

Predict: TypeAlias = Callable[[Tensor, Tensor, Conditioning], Tensor]


@torch.no_grad()
def self_condition(
    predict: Predict, z: Latents, t: Times, cond: Conditioning, rows: RowIndices
) -> tuple[Latents, Float[Tensor, "n S d"]]:
    """Self-condition of a batch, and the prediction of the chosen rows that it holds.

    These rows are conditioned on the network's prediction under a zero self-condition, the others on zeros; a prompt
    stands clean in both. Only the chosen rows take the extra pass, without gradient.

    Args:
        predict: (z, t, cond) -> E[x | z_t].
        z: noisy latents [B, S, d].
        t: times [B] or [B, S].
        cond: guidance and prompt.
        rows: indices of the rows that are self-conditioned.
    """
    blank, row_cond = cond.restore_prompt(torch.zeros_like(z)), cond.rows(rows)
    first = row_cond.restore_prompt(predict(z[rows], t[rows], row_cond._replace(self_cond=blank[rows])))
    return blank.index_put((rows,), first.to(blank.dtype)), first
