"""Self-conditioning: a network sees its own prediction of a pass before (2208.04202)."""

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
    """Self-condition of a batch, and the blind prediction that it holds.

    The chosen rows see the network's prediction under a zero self-condition, the others see zeros; a prompt stands
    clean in both. Only the chosen rows take the extra pass, without gradient.

    Args:
        predict: (z, t, cond) -> E[x | z_t].
        z: noisy latents [B, S, d].
        t: their times [B] or [B, S].
        cond: guidance and prompt.
        rows: indices of the rows that are self-conditioned [n].

    Returns:
        self-condition [B, S, d], and the prediction of the chosen rows [n, S, d].
    """
    blank, some = cond.restore_prompt(torch.zeros_like(z)), cond.rows(rows)
    blind = some.restore_prompt(predict(z[rows], t[rows], some._replace(self_cond=blank[rows])))
    return blank.index_put((rows,), blind.to(blank.dtype)), blind
