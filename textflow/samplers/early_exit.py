"""Early exit: a row whose tokens are settled needs no further network evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.paths.base import ProbPath
from textflow.types import Evaluate, Latents, Logits, Posterior, RowMask


class ExitState(NamedTuple):
    """The state of early exit between two calls.

    Args:
        belief: latest posterior of every row.
        streak: settled calls in a row, one count a row.
    """

    belief: Posterior
    streak: Int[Tensor, " B"]


@dataclass(frozen=True)
class EarlyExit:
    """A row exits once nearly all its positions have led by a margin, several calls in a row (2606.08810, margin gate).

    Args:
        margin: lead of the top token over the second, log p1 - log p2, nats.
        quantile: fraction of a row's positions that may lead by less, in [0, 1].
        patience: settled calls in a row, at least 1; calls at pure noise do not count.
    """

    margin: float
    quantile: float = 0.1
    patience: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1 or self.patience < 1:
            raise ValueError(
                f"EarlyExit got quantile {self.quantile} and patience {self.patience}; it needs a quantile in [0, 1] "
                "and a patience of at least 1"
            )

    def __call__(
        self,
        denoise: Evaluate,
        token_logits: Callable[[Latents, float, Posterior], Logits],
        path: ProbPath,
        z: Latents,
        t: float,
        self_cond: Latents | None = None,
        t_next: float | None = None,
        state: ExitState | None = None,
    ) -> Posterior:
        """The belief of all rows; those that have exited keep their last one. Its `carry` is the state of the next
        call.

        Args:
            denoise: denoiser without an escape.
            token_logits: (z, t, belief) of some rows -> logits of p(token | z_t).
            path: probability path that the latents follow.
            z: latents of all rows at time t [B, S, d].
            t: time.
            self_cond: mean of the previous belief.
            t_next: end of the step.
            state: state of the previous call; None at the first.
        """
        streak = torch.zeros(len(z), dtype=torch.long, device=z.device) if state is None else state.streak
        active = streak < self.patience
        if state is not None and not active.any():
            return state.belief._replace(carry=state)
        new = denoise(z[active], t, None if self_cond is None else self_cond[active], t_next)
        if t > path.t_min:
            new = new._replace(logits=token_logits(z[active], t, new))
        belief = new if state is None or active.all() else merge_rows(state.belief, active, new)
        if t > path.t_min and new.logits is not None:
            streak = streak.masked_scatter(active, torch.where(self.settled(new.logits), streak[active] + 1, 0))
        return belief._replace(carry=ExitState(belief, streak))

    def settled(self, logits: Logits) -> RowMask:
        """True on rows whose lead, at this quantile of positions, is enough."""
        first, second = logits.topk(2).values.double().unbind(-1)
        return torch.quantile(first - second, self.quantile, dim=-1) >= self.margin


def merge_rows(old: Posterior, rows: RowMask, new: Posterior) -> Posterior:
    """A copy of `old` with these rows replaced; a trace may hold `old` itself."""
    assert old.logits is not None and new.logits is not None, "a row exits after a call that gave logits"
    mean = old.mean.masked_scatter(rows[:, None, None], new.mean)
    return Posterior(mean, old.logits.masked_scatter(rows[:, None, None], new.logits))
