"""Margins of tokens during sampling: confidence, settling time, and thresholds for an early exit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textflow.diagnostics.bootstrap import SampleSize
from textflow.diagnostics.residual import latent_mask
from textflow.samplers import EarlyExit, Trace
from textflow.types import Ids, Latents, Logits, Mask


@dataclass(frozen=True)
class MarginsResult:
    """Margin and argmax of every token at every call [ours].

    Args:
        margin: log p of the likeliest token minus that of the second, nats.
        argmax_ids: the likeliest token.
        agreement: True where it equals the final token.
        settling_call: first call from which every argmax is the final token (its basin is entered); K where the
            last differs too.
        mean_shift: |x_hat_k - x_hat_(k-1)| of each latent, k = 1 ... K - 1, latent units.
        mask: True at text.
        times: times of the calls, in [0, 1].
    """

    margin: Float[Tensor, "K B L"]
    argmax_ids: Int[Tensor, "K B L"]
    agreement: Bool[Tensor, "K B L"]
    settling_call: Int[Tensor, "B L"]
    mean_shift: Float[Tensor, "moves B S"]
    mask: Mask
    times: list[float]

    def summary(self) -> dict[str, Tensor]:
        """Means over valid positions: per call the margin, its 10th percentile, the share that agrees with the final
        token and the share settled; per move the mean shift (over all latents unless there is one per token)."""
        calls = torch.arange(len(self.margin), device=self.margin.device)[:, None, None]
        latents = latent_mask(self.mask, self.mean_shift.movedim(0, -1))
        return {
            "mean": self.margin[:, self.mask].mean(-1),
            "p10": torch.quantile(self.margin[:, self.mask], 0.1, dim=-1),
            "agreement": self.agreement[:, self.mask].double().mean(-1),
            "settled_fraction": (self.settling_call <= calls)[:, self.mask].double().mean(-1),
            "mean_shift": self.mean_shift[:, latents].mean(-1),
        }


def token_margins(
    trace: Trace,
    logits: Iterable[Logits] | Callable[[Latents], Logits] | None = None,
    final_ids: Ids | None = None,
    mask: Mask | None = None,
) -> MarginsResult:
    """Margins of a sampling run.

    Args:
        trace: trace of the sampling run.
        logits: logits of each call in order, or a readout of a belief's mean; default: the beliefs' logits.
        final_ids: final tokens; default: the last call's argmax.
        mask: True at text; default: everywhere.
    """
    if logits is None:
        logits = [belief.logits for belief in trace.beliefs if belief.logits is not None]
        if len(logits) < len(trace.beliefs):
            raise ValueError("these beliefs have no logits: pass the logits of each call, or a readout of the means")
    elif callable(logits):
        read = logits
        logits = (read(belief.mean) for belief in trace.beliefs)
    tops = [each.topk(2) for each in logits]  # one call's logits at a time
    if len(tops) != len(trace.beliefs):
        raise ValueError(f"margins need the logits of all {len(trace.beliefs)} calls of the trace, not of {len(tops)}")
    chosen = torch.stack([top.indices[..., 0] for top in tops])
    values = torch.stack([top.values for top in tops]).double()
    agrees = chosen == (chosen[-1] if final_ids is None else final_ids)
    settled = len(tops) - agrees.flip(0).long().cumprod(0).sum(0)
    means = [belief.mean.double() for belief in trace.beliefs]
    moved = [(x - before).norm(dim=-1) for before, x in pairwise(means)]
    return MarginsResult(
        values[..., 0] - values[..., 1],
        chosen,
        agrees,
        settled,
        torch.stack(moved) if moved else means[0].new_zeros(0, *means[0].shape[:2]),
        torch.ones_like(settled, dtype=torch.bool) if mask is None else mask,
        list(trace.times),
    )


@dataclass(frozen=True)
class ExitThreshold:
    """Early-exit threshold and its error and cost on the rollouts it was fitted to.

    Args:
        margin: tau, nats; infinite if no exit meets the tolerance.
        disagreement: share of tokens that differ from the full run's.
        mean_calls: mean number of calls per row.
        full_calls: number of calls of the full run.
        quantile: share of a row's positions that may fall below the margin.
        patience: number of consecutive calls.
        size: numbers of positions and rollouts.
    """

    margin: float
    disagreement: float
    mean_calls: float
    full_calls: int
    quantile: float
    patience: int
    size: SampleSize

    def early_exit(self) -> EarlyExit:
        """The equivalent EarlyExit rule."""
        return EarlyExit(self.margin, self.quantile, self.patience)


def fit_threshold(
    margins: Float[Tensor, "K B L"],
    agreement: Bool[Tensor, "K B L"],
    mask: Mask | None = None,
    tolerance: float = 0.005,
    quantile: float = 0.1,
    patience: int = 2,
    first_call: int = 1,
) -> ExitThreshold:
    """The smallest tau at and above which the early exit errs in at most a share `tolerance` of all tokens.

    Args:
        margins: margins of held-out rollouts, nats.
        agreement: True where the argmax equals the final token.
        mask: True at text; default: everywhere.
        tolerance: share of tokens that may differ from the full run's, in [0, 1].
        quantile: share of a row's positions that may fall below tau, in [0, 1].
        patience: number of consecutive calls above tau, >= 1.
        first_call: first call that may exit; call 0 is at t = 0, where z is pure noise.
    """
    mask = torch.ones_like(agreement[0]) if mask is None else mask
    sustained = sustained_margin(margins, mask, quantile, patience, first_call)
    best = sustained.cummax(0).values  # a row exits at call k where before < tau <= best
    before = torch.cat([torch.full_like(best[:1], -torch.inf), best[:-1]])
    wrong = (~agreement & mask).sum(-1)
    taus = torch.cat([best[best.isfinite()].sort().values, best.new_tensor([torch.inf])])
    errors = weight_above(best, wrong, taus) - weight_above(before, wrong, taus)
    within = errors <= tolerance * int(mask.sum())
    at = int(within.flip(0).long().cumprod(0).sum())  # taus at the end of the list that all meet the tolerance
    tau = float(taus[len(taus) - at])
    calls = 1 + exit_calls(margins, tau, mask, quantile, patience, first_call)
    valid = mask.any(-1)
    return ExitThreshold(
        tau,
        int(errors[len(taus) - at]) / max(int(mask.sum()), 1),
        float(calls[valid].double().mean()) if valid.any() else float(len(margins)),
        len(margins),
        quantile,
        patience,
        SampleSize(int(mask.sum()), int(valid.sum()), dtype=str(margins.dtype).removeprefix("torch.")),
    )


def exit_calls(
    margins: Float[Tensor, "K B L"],
    threshold: float,
    mask: Mask,
    quantile: float = 0.1,
    patience: int = 2,
    first_call: int = 1,
) -> Int[Tensor, " B"]:
    """The call after which each row stops, K - 1 where it runs to the end. Arguments as in `fit_threshold`."""
    stops = sustained_margin(margins, mask, quantile, patience, first_call) >= threshold
    return torch.where(stops.any(0), stops.long().argmax(0), len(margins) - 1)


def sustained_margin(
    margins: Float[Tensor, "K B L"], mask: Mask, quantile: float, patience: int, first_call: int
) -> Float[Tensor, "K B"]:
    """The least of the last `patience` calls' low margins (`quantile` of a row); -inf where no exit is allowed."""
    finite = margins.double().clamp_max(1e300)  # a quantile between infinite margins is undefined
    low = finite.masked_fill(~mask, torch.nan).nanquantile(quantile, -1).nan_to_num(nan=-torch.inf)
    low[:first_call] = -torch.inf
    low[-1:] = -torch.inf  # the last call cannot exit early
    padded = torch.cat([torch.full_like(low[:1], -torch.inf).expand(patience - 1, -1), low])
    return padded.unfold(0, patience, 1).amin(-1)


def weight_above(
    values: Float[Tensor, "K B"], weights: Int[Tensor, "K B"], taus: Float[Tensor, " n"]
) -> Int[Tensor, " n"]:
    """Sum of the weights of all values >= tau."""
    order, index = values.flatten().sort()
    total = torch.cat([weights.new_zeros(1), weights.flatten()[index].cumsum(0)])
    return total[-1] - total[torch.searchsorted(order, taus)]
