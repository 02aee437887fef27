"""Thresholds of margin gates: fitted on some texts, with the tokens that they get wrong on others [ours]."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.diagnostics.base import DiagnosticInputs
from textflow.diagnostics.margins import exit_calls, fit_threshold
from textflow.diagnostics.residual import terminal_posterior
from textflow.metrics import Interval, wilson
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers import EarlyExit, Sample
from textflow.samplers.early_exit import ExitState
from textflow.types import Evaluate, Ids, Latents, Logits, Mask, Posterior


class GateThreshold(NamedTuple):
    """A threshold of the margin, and its error on texts that it was not fitted on.

    Args:
        margin: threshold, nats; infinite if none is within the tolerance.
        disagreement: share of tokens that differ, with its 95 % interval.
        acting: early exit: mean number of calls per text; commitment: share of positions that commit.
        num_texts: number of texts of the disagreement.
    """

    margin: float
    disagreement: Interval
    acting: float
    num_texts: int


class GateMargins(NamedTuple):
    """Margins of the likeliest tokens, and where these differ from the text.

    Args:
        margin: log p of the likeliest token minus that of the second, nats.
        wrong: True where the likeliest token is not the text's.
        mask: True at text.
    """

    margin: Float[Tensor, "K B L"]
    wrong: Bool[Tensor, "K B L"]
    mask: Mask


@torch.no_grad()
def text_margins(inputs: DiagnosticInputs, ids: Ids, times: list[float], noise: Noise) -> GateMargins:
    """Margins of p(token | z_t) of noised text at each interior time of a grid: what a gate of Commit receives.

    Args:
        inputs: text, its latents, and the model's functions.
        ids: tokens of the text.
        times: increasing grid.
        noise: one stream per text.
    """
    if inputs.token_logits is None or ids.shape != inputs.x.shape[:2]:
        raise ValueError("a gate of Commit needs a latent per token, and a model that denoises them")
    margins, wrong = list[Tensor](), list[Tensor]()
    for t in times[1:-1]:
        state = terminal_posterior(inputs.denoise, inputs.path, inputs.x, inputs.mask, t, noise)
        logits = inputs.token_logits(state.z, t, state.belief)
        margins.append(lead(logits))
        wrong.append(logits.argmax(-1) != ids)
    return GateMargins(torch.stack(margins), torch.stack(wrong), inputs.mask)


def fit_margin_gate(fitted: GateMargins, held_out: GateMargins, tolerance: float = 0.005) -> GateThreshold:
    """The smallest margin of MarginGate at which at most a share `tolerance` of the committed tokens is wrong in the
    first texts, and that share in the others.

    Args:
        fitted: margins of the texts to fit on.
        held_out: margins of other texts.
        tolerance: share of committed tokens that may differ from the text, in [0, 1].
    """
    margin, order = fitted.margin[:, fitted.mask].flatten().sort(descending=True)
    wrong = fitted.wrong[:, fitted.mask].flatten()[order].double()
    within = wrong.cumsum(0) / torch.arange(1, len(wrong) + 1).to(wrong) <= tolerance
    within[:-1] &= margin[:-1] > margin[1:]  # equal margins commit together
    threshold = float(margin[within][-1]) if within.any() else math.inf
    commits = (held_out.margin >= threshold) & held_out.mask
    trials = commits.sum((0, 2))
    share = wilson((commits & held_out.wrong).sum((0, 2)), trials) if trials.sum() else Interval(0.0)
    positions = len(commits) * int(held_out.mask.sum())
    return GateThreshold(threshold, share, int(trials.sum()) / max(positions, 1), len(trials))


@torch.no_grad()
def fit_early_exit(
    model: Generator, seeds: list[int], num_steps: int, tolerance: float = 0.005, quantile: float = 0.1
) -> GateThreshold:
    """The smallest margin of EarlyExit that changes at most a share `tolerance` of the tokens of half of the samples,
    and the share that it does change in the other half: these are sampled with it and without.

    Args:
        model: generator; its own early exit is left out.
        seeds: random seeds, at least two, one a sample.
        num_steps: number of sampling steps, at least 3.
        tolerance: share of the tokens that may change, in [0, 1].
        quantile: share of a text's positions that may fall below the margin, in [0, 1].
    """
    if len(seeds) < 2 or num_steps < 3:
        raise ValueError(
            f"an early exit is fitted on 2 or more samples of 3 or more steps, not {len(seeds)} of {num_steps}"
        )
    half = len(seeds) // 2
    watch = WatchedExit(math.inf, quantile)
    rolled = exiting(model, watch, seeds[:half], num_steps)
    decode = model.logits_fn(None, rolled.trace.z)
    agreement = torch.stack([decode(mean).argmax(-1) == rolled.ids for mean in watch.means])
    rule = fit_threshold(watch.call_margins(), agreement, None, tolerance, quantile).early_exit()
    watch = WatchedExit(math.inf, quantile)
    full = exiting(model, watch, seeds[half:], num_steps).ids
    differs = full != exiting(model, rule, seeds[half:], num_steps).ids
    calls = 1 + exit_calls(watch.call_margins(), rule.margin, torch.ones_like(differs), quantile)
    share = wilson(differs.sum(1), torch.full_like(differs[:, 0], differs.shape[1], dtype=torch.long))
    return GateThreshold(rule.margin, share, float(calls.double().mean()), len(differs))


def exiting(model: Generator, rule: EarlyExit, seeds: list[int], num_steps: int) -> Sample:
    """Samples of a generator under an early exit; its own one is restored."""
    own = model.early_exit
    model.early_exit = rule
    try:
        return model.sample(seeds, num_steps)
    finally:
        model.early_exit = own


@dataclass(frozen=True)
class WatchedExit(EarlyExit):
    """An early exit that no text takes; it keeps what the rule receives.

    Args:
        margins: margins of each call but those at pure noise, which come first and do not count [B, L], nats.
        means: mean of each call's belief.
    """

    margins: list[Float[Tensor, "B L"]] = field(default_factory=list)
    means: list[Latents] = field(default_factory=list)

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
        belief = super().__call__(denoise, token_logits, path, z, t, self_cond, t_next, state)
        self.means.append(belief.mean)
        if belief.logits is not None and t > path.t_min:
            self.margins.append(lead(belief.logits))
        return belief

    def call_margins(self) -> Float[Tensor, "K B L"]:
        """Margins of all calls; -inf at pure noise, where no text exits."""
        counted = torch.stack(self.margins)
        first = torch.full_like(counted[:1], -torch.inf).expand(len(self.means) - len(counted), -1, -1)
        return torch.cat([first, counted])


def lead(logits: Logits) -> Float[Tensor, "B L"]:
    """log p of the likeliest token minus that of the second, nats, float64."""
    first, second = logits.topk(2).values.double().unbind(-1)
    return first - second
