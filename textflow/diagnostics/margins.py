"""Margins: how sure each token is while its text is made, when it is settled, and when the run could have stopped."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import Size
from textflow.samplers import EarlyStop, Trace
from textflow.types import Ids, Latents, Logits, Mask


@dataclass(frozen=True)
class Margins:
    """Every call's choice of every token [ours].

    Args:
        lead: log p of the likeliest token less that of the second, nats.
        chosen: the likeliest token.
        agrees: whether it is the final one.
        settled: first call from which on all choices are the final token (the token has entered its basin); K where
            even the last is not.
        moved: |x_hat_k - x_hat_(k-1)| of each latent, k = 1 ... K - 1, latent units.
        mask: True where there is text.
        times: of the calls.
    """

    lead: Float[Tensor, "K B L"]
    chosen: Int[Tensor, "K B L"]
    agrees: Bool[Tensor, "K B L"]
    settled: Int[Tensor, "B L"]
    moved: Float[Tensor, "moves B S"]
    mask: Mask
    times: list[float]

    def summary(self) -> dict[str, Tensor]:
        """Over valid positions: of each call the mean lead, its 10th percentile, the share that agrees with the final
        token and the share settled; of each move its mean (over all latents where they are not one a token)."""
        calls = torch.arange(len(self.lead), device=self.lead.device)[:, None, None]
        latents = self.mask if self.moved.shape[1:] == self.mask.shape else torch.ones_like(self.moved[0]).bool()
        return {
            "lead": self.lead[:, self.mask].mean(-1),
            "lead_low": torch.quantile(self.lead[:, self.mask], 0.1, dim=-1),
            "agrees": self.agrees[:, self.mask].double().mean(-1),
            "settled": (self.settled <= calls)[:, self.mask].double().mean(-1),
            "moved": self.moved[:, latents].mean(-1),
        }


def margins(
    trace: Trace,
    logits: Iterable[Logits] | Callable[[Latents], Logits] | None = None,
    final: Ids | None = None,
    mask: Mask | None = None,
) -> Margins:
    """Margins of a sampling run.

    Args:
        trace: of the run.
        logits: of each call, one after the other; or what reads a belief's mean; default: the beliefs' own.
        final: the tokens that were written; default: the last call's choice.
        mask: True where there is text; default: everywhere.
    """
    if logits is None:
        logits = (own(belief.logits) for belief in trace.beliefs)
    elif callable(logits):
        read = logits
        logits = (read(belief.mean) for belief in trace.beliefs)
    tops = [each.topk(2) for each in logits]  # one call's logits at a time
    if len(tops) != len(trace.beliefs):
        raise ValueError(f"margins need the logits of all {len(trace.beliefs)} calls of the trace, not of {len(tops)}")
    chosen = torch.stack([top.indices[..., 0] for top in tops])
    values = torch.stack([top.values for top in tops]).double()
    agrees = chosen == (chosen[-1] if final is None else final)
    settled = len(tops) - agrees.flip(0).long().cumprod(0).sum(0)
    means = [belief.mean.double() for belief in trace.beliefs]
    moved = [(x - before).norm(dim=-1) for before, x in pairwise(means)]
    return Margins(
        values[..., 0] - values[..., 1],
        chosen,
        agrees,
        settled,
        torch.stack(moved) if moved else means[0].new_zeros(0, *means[0].shape[:2]),
        torch.ones_like(settled, dtype=torch.bool) if mask is None else mask,
        list(trace.times),
    )


def own(logits: Logits | None) -> Logits:
    """A belief's own logits."""
    if logits is None:
        raise ValueError("these beliefs have no logits: give margins those of each call, or a readout of the means")
    return logits


@dataclass(frozen=True)
class Threshold:
    """An early exit and what it costs on the rolls that it was fitted to.

    Args:
        lead: tau, nats; infinite where no exit is early enough and right enough.
        disagreement: share of tokens that are not those of the whole run.
        calls: mean number of calls a row.
        whole: calls of the whole run.
        share: of a row's positions that may lead by less.
        patience: calls in a row.
        size: rolls and positions that it rests on.
    """

    lead: float
    disagreement: float
    calls: float
    whole: int
    share: float
    patience: int
    size: Size

    def rule(self) -> EarlyStop:
        """The sampler's rule."""
        return EarlyStop(self.lead, self.share, self.patience)


def fit_threshold(
    margins: Float[Tensor, "K B L"],
    agrees: Bool[Tensor, "K B L"],
    mask: Mask | None = None,
    tolerance: float = 0.005,
    share: float = 0.1,
    patience: int = 2,
    first: int = 1,
) -> Threshold:
    """The smallest tau at and above which the early exit errs in at most a share `tolerance` of all tokens.

    Args:
        margins: leads of held-out rolls, nats.
        agrees: with the final token.
        mask: True where there is text; default: everywhere.
        tolerance: share of tokens that may differ from the whole run's, in [0, 1].
        share: of a row's positions that may lead by less, in [0, 1].
        patience: calls in a row that lead by enough, >= 1.
        first: call that counts first; 0 is made at t = 0, where z tells nothing.
    """
    mask = torch.ones_like(agrees[0]) if mask is None else mask
    held = sustained(margins, mask, share, patience, first)
    best = held.cummax(0).values  # a row exits at call k where before < tau <= best
    before = torch.cat([torch.full_like(best[:1], -torch.inf), best[:-1]])
    wrong = (~agrees & mask).sum(-1)
    taus = torch.cat([best[best.isfinite()].sort().values, best.new_tensor([torch.inf])])
    errors = at_least(best, wrong, taus) - at_least(before, wrong, taus)
    fine = errors <= tolerance * int(mask.sum())
    at = int(fine.flip(0).long().cumprod(0).sum())  # taus at the end of the list that all are fine
    tau = float(taus[len(taus) - at])
    calls = 1 + early_exit(margins, tau, mask, share, patience, first)
    valid = mask.any(-1)
    return Threshold(
        tau,
        int(errors[len(taus) - at]) / max(int(mask.sum()), 1),
        float(calls[valid].double().mean()) if valid.any() else float(len(margins)),
        len(margins),
        share,
        patience,
        Size(int(mask.sum()), int(valid.sum()), dtype=str(margins.dtype).removeprefix("torch.")),
    )


def early_exit(
    margins: Float[Tensor, "K B L"], tau: float, mask: Mask, share: float = 0.1, patience: int = 2, first: int = 1
) -> Int[Tensor, " B"]:
    """The call after which each row stops, K - 1 where it runs to the end. Arguments as in `fit_threshold`."""
    stops = sustained(margins, mask, share, patience, first) >= tau
    return torch.where(stops.any(0), stops.long().argmax(0), len(margins) - 1)


def sustained(
    margins: Float[Tensor, "K B L"], mask: Mask, share: float, patience: int, first: int
) -> Float[Tensor, "K B"]:
    """The least of the last `patience` calls' low leads (quantile `share` of a row); -inf where none may exit."""
    finite = margins.double().clamp_max(1e300)  # a quantile between infinite leads has no value
    low = finite.masked_fill(~mask, torch.nan).nanquantile(share, -1).nan_to_num(nan=-torch.inf)
    low[:first] = -torch.inf
    low[-1:] = -torch.inf  # the end is no early exit
    padded = torch.cat([torch.full_like(low[:1], -torch.inf).expand(patience - 1, -1), low])
    return padded.unfold(0, patience, 1).amin(-1)


def at_least(values: Float[Tensor, "K B"], weights: Int[Tensor, "K B"], taus: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Sum of the weights of all values >= tau."""
    order, index = values.flatten().sort()
    total = torch.cat([weights.new_zeros(1), weights.flatten()[index].cumsum(0)])
    return total[-1] - total[torch.searchsorted(order, taus)]
