"""Self-conditioning: a network is conditioned on its own prediction of an earlier pass (2208.04202)."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.objectives.row_indices import RowIndices
from textflow.paths.base import ProbPath
from textflow.types import Conditioning, Latents, Times

Predict: TypeAlias = Callable[[Tensor, Tensor, Conditioning], Tensor]


class NoisyText(NamedTuple):
    """Text with its noise, which is the same at all times.

    Args:
        path: how latents are noised.
        x: clean latents [B, S, d].
        eps: noise, standard normal [B, S, d].
        cond: guidance and prompt.
    """

    path: ProbPath
    x: Latents
    eps: Latents
    cond: Conditioning

    def at(self, t: Times) -> Latents:
        """z_t with a clean prompt."""
        return self.cond.restore_prompt(self.path.mix(self.x, self.eps, t))


class SelfConditioning:
    """Times of self-conditioned training: text keeps its times, and is conditioned on a prediction from the same
    latents (2208.04202)."""

    @property
    def per_position(self) -> bool:
        """True if `noise_times` gives each position a time of its own."""
        return False

    def noise_times(self, predict: Predict, text: NoisyText, t: Times) -> Times:
        """Times that the text is noised to, [B] or [B, S].

        Args:
            predict: (z, t, cond) -> E[x | z_t].
            text: text and noise.
            t: times from the objective's schedule [B] or [B, S].
        """
        return t

    def prediction_state(self, text: NoisyText, z: Latents, t: Times) -> tuple[Latents, Times]:
        """Latents, and their times, of the prediction that z_t is conditioned on.

        Args:
            text: text and noise.
            z: latents at t [B, S, d].
            t: times [B] or [B, S].
        """
        return z, t


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


def require_row_times(self_conditioning: SelfConditioning, objective: str) -> None:
    """Raise if an objective with one time per row, given by its name, would have one a position."""
    if self_conditioning.per_position:
        raise ValueError(
            f"{objective} has one time per row, but its {type(self_conditioning).__name__} gives each position one; "
            "set noise_scaling to 0, or use the objective LangFlowObjective or CrossEntropy"
        )
