"""Flow maps: one net for every step from s to u (FMLM, 2602.16813)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from textflow.distill.targets.base import Data, Guess, Lesson, Target, Walk, share
from textflow.distill.targets.flow_map import SemiGroup
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser
from textflow.objectives.base import Objective
from textflow.objectives.row_indices import in_many, none, places
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.schedules.uniform import Uniform
from textflow.types import Batch, Given, Latents, Posterior, Rows, Times

Error = Literal["cross_entropy", "square"]


class Spans(NamedTuple):
    """The random numbers of one step.

    Args:
        s: start of each row.
        u: its end; s on instant rows.
        eps: noise, standard normal.
        instant: True on rows of no length, which learn the denoiser itself.
        still: number of instant rows, where it is known: a step does not wait for a GPU then.
    """

    s: Times
    u: Times
    eps: Latents
    instant: Rows
    still: int | None = None


class FlowMap(Objective):
    """Instant rows learn the denoiser, from the data or a teacher; the others what `target` makes of it.

    Args:
        target: of steps that have a length.
        clock: starts, ends and middles lie evenly in this law.
        instant: share of rows of no length, in [0, 1].
        whole: share of the others that go from 0 to 1, in [0, 1].
        error: of steps: `cross_entropy` of token laws, or the `square` of guesses, summed over the latent's width.
        instant_error: the same, of instant rows.
        rescale: whether a step's square is taken of where it ends, rather than of its guess.
    """

    teacher: Frozen | None

    def __init__(
        self,
        target: Target | None = None,
        clock: Clock | None = None,
        instant: float = 0.5,
        whole: float = 1 / 32,
        error: Error = "cross_entropy",
        instant_error: Error = "cross_entropy",
        rescale: bool = False,
    ) -> None:
        super().__init__()
        self.target, self.clock = target or SemiGroup(), clock or Uniform()
        self.instant, self.whole, self.rescale = instant, whole, rescale
        self.error, self.instant_error = error, instant_error
        self.teacher = None  # the data teach instant rows, the net itself the others

    def learn_from(self, objective: Objective, teacher: Denoiser) -> None:
        """Take a teacher, in place of the data.

        Args:
            objective: that it was trained for; any.
            teacher: trained on the same latents and path.
        """
        self.teacher = Frozen(teacher)

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        spans = self.draw(x)
        return self.loss(net, path, x, batch, spans, self.target.times(spans.s, spans.u, self.clock))

    def draw(self, x: Latents) -> Spans:
        """The random numbers of one step, for latents of x's shape."""
        return draw_spans(x, self.clock, self.instant, self.whole)

    def loss(self, net: Denoiser, path: Path, x: Latents, batch: Batch, spans: Spans, times: Walk) -> dict[str, Tensor]:
        """The losses for given draws: a token mean over both kinds of rows.

        Args:
            net: is told the end of its step.
            path: how x is noised.
            x: clean latents.
            batch: ids and mask behind x.
            spans: the draws.
            times: of each row's walk, from s to u.
        """
        z, valid, each, losses = path.mix(x, spans.eps, spans.s), batch.mask, x.new_zeros(x.shape[:2]), {}
        still = places(spans.instant, spans.still)
        for name, rows in (("instant", still), ("steps", places(~spans.instant, len(x) - len(still)))):
            if not len(rows) and not in_many():
                continue
            if name == "steps":
                some = self._steps(net, path, z[rows], times[rows])
            else:
                some = self._instants(net, x[rows], z[rows], spans.s[rows])
            each = each.index_put((rows,), some)
            if len(rows):
                losses[name] = (some.detach() * valid[rows]).sum() / valid[rows].sum().clamp_min(1)
        each = weighed(net, each, spans.s)
        return {"loss": (each * valid).sum() / valid.sum().clamp_min(1), "tokens": valid.sum(), **losses}

    def _instants(self, net: Denoiser, x: Latents, z: Latents, t: Times) -> Tensor:
        teacher: Guess = Data(x) if self.teacher is None else self.teacher
        with torch.no_grad():
            goal = teacher(z, t).mean
        return penalty(net(z, t, Given(until=t)), goal, self.instant_error)

    def _steps(self, net: Denoiser, path: Path, z: Latents, times: Walk) -> Tensor:
        lesson, s, u = self.lesson(net, path, z, times), times[:, 0], times[:, -1]
        error = penalty(lesson.guess or net(z, s, Given(until=u)), lesson.goal.detach(), self.error)
        return error * share(path, s, u)[1][..., 0].to(error) ** 2 if self.rescale else error

    def lesson(self, net: Guess, path: Path, z: Latents, times: Walk) -> Lesson:
        """What the steps that have a length are to answer; without a teacher the net's own instant guess is asked."""

        def own(z: Latents, t: Times, given: Given = Given()) -> Posterior:
            return net(z, t, given._replace(until=t))

        return self.target(self.teacher or own, net, path, z, times, Given(), none(z))


def draw_spans(x: Latents, clock: Clock, instant_share: float, whole_share: float, still: int | None = None) -> Spans:
    """Steps that start and end evenly in a law of time.

    Args:
        x: latents of the shape wanted.
        clock: the law.
        instant_share: of rows of no length; their number is known where this makes it whole.
        whole_share: of the others, that go from 0 to 1.
        still: number of rows of no length, in place of a share.
    """
    coin, whole, start, length = (even(len(x), x.device) for _ in range(4))
    low, instant = start * (1 - length), coin < instant_share if still is None else coin.argsort().argsort() < still
    high = low + length
    all_of_it = whole < whole_share
    low, high = torch.where(all_of_it, 0.0, low), torch.where(all_of_it, 1.0, high)
    s, u = (clock.icdf(torch.where(instant, start, q)).float() for q in (low, high))
    count = instant_share * len(x) if still is None else still
    return Spans(s, u, torch.randn_like(x), instant, int(count) if count == int(count) else None)


def even(rows: int, device: torch.device) -> Times:
    """One uniform number in each of `rows` equal parts of [0, 1), in random order, float64."""
    order = torch.randperm(rows, device=device)
    return ((torch.arange(rows, device=device) + torch.rand(rows, device=device, dtype=torch.float64)) / rows)[order]


def penalty(belief: Posterior, goal: Latents, error: Error) -> Tensor:
    """[B, S]: -sum goal log p, or sum (goal - mean)^2, over the last axis."""
    if error == "square":
        return ((goal - belief.mean) ** 2).sum(-1)
    if belief.logits is None:
        raise ValueError("FlowMap(error=cross_entropy) needs a net that gives logits; use error=square")
    return -(goal * belief.logits.log_softmax(-1)).sum(-1)


def weighed(net: Denoiser, error: Tensor, s: Times) -> Tensor:
    """exp(-w) error + w, where the net learns w, the logarithm of the error at s (FLM, stage 1; 2312.02696)."""
    expected = getattr(net, "expected", None)
    w = None if expected is None else expected(s)
    return error if w is None else torch.exp(-w)[:, None] * error + w[:, None]
