"""Distillation into a flow map: one student for steps of every length, which is told where each step ends."""

import torch
from torch import Tensor

from textflow.distill.base import Student, quiet
from textflow.distill.flow_map import Spans, draw_spans
from textflow.distill.row_losses import means, row_mean, row_nll
from textflow.distill.targets.base import Guess, Target
from textflow.distill.targets.flow_map import SemiGroup
from textflow.nets.base import Denoiser, Speaker
from textflow.objectives.elf import Draws, ELFObjective
from textflow.objectives.row_indices import Places, in_many, none, places
from textflow.paths.base import Path
from textflow.types import Batch, Given, Latents


class DistillFlow(Student):
    """Rows of no length learn the teacher's guess, others what `target` says, decoding rows the tokens [ours].

    The targets are those of flow maps and mean flows; rows, guidance and decoding are ELF's. The self-condition is the
    teacher's blind guess at the start of the step, and stands still along it.

    Args:
        target: SemiGroup, Eulerian, Lagrangian (without projection) or MeanFlow.
        like: the objective that the teacher was trained with: its clock, guidance, decoding rows and coins.
        instant: share of denoising rows of no length, in [0, 1].
        whole: share of the others that go from 0 to 1, in [0, 1].
        power: of its own error that a row's is divided by, in [0, 1] (MeanFlow, sec. 4); 0 is the plain square.
        eps: added to the error there, > 0.
    """

    def __init__(
        self,
        target: Target | None = None,
        like: ELFObjective | None = None,
        instant: float = 0.5,
        whole: float = 1 / 32,
        power: float = 0.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.target, self.like = target or SemiGroup(), like or ELFObjective()
        self.instant, self.whole, self.power, self.eps = instant, whole, power, eps
        self.teacher = None

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(net, Speaker) or getattr(net, "until", None) is None or net.head is not None:
            raise ValueError(
                f"DistillFlow trains a net with a decode mode that is told the end of a step, without a commitment "
                f"head; {type(net).__name__} as given is none: use ELF with spans: true"
            )
        if self.teacher is None:
            raise ValueError("DistillFlow has no teacher: name its run, `textflow distill RECIPE --teacher RUN`")
        draws = self.like.draw(x)
        return self.loss(net, path, x, batch, draws, self.spans(x, draws))

    def spans(self, x: Latents, draws: Draws) -> Spans:
        """Steps of rows. Where coins are stratified, as many denoising rows as the share makes, rounded up or down by a
        coin of the host's, are instant, and no others: no step waits for a GPU.

        Args:
            x: latents of the shape wanted.
            draws: of `like`.
        """
        if (counts := self.like.counts(len(x))) is None:  # nor is it known how many instant rows denoise
            return draw_spans(x, self.clock, self.instant, self.whole)._replace(still=None)
        few = len(x) - counts.decode
        rows = places(~draws.decode, few)
        still = int(self.instant * few + float(torch.rand((), device="cpu").numpy()))
        drawn = draw_spans(x[:few], self.clock, self.instant, self.whole, still)
        parts = drawn.s, drawn.u, drawn.eps, drawn.instant
        s, u, eps, instant = (part.new_zeros(len(x), *part.shape[1:]).index_put((rows,), part) for part in parts)
        return Spans(s, u, eps, instant, drawn.still)

    def loss(self, net: Speaker, path: Path, x: Latents, batch: Batch, draws: Draws, spans: Spans) -> dict[str, Tensor]:
        """The losses for given draws; rows weigh alike.

        Args:
            net: the student, which is told the end of its step.
            path: how x is noised.
            x: clean latents.
            batch: ids and mask behind x.
            draws: of `like`; their t and eps are not used.
            spans: start, end and noise of each row, as `spans` draws them.
        """
        counts, z = self.like.counts(len(x)), path.mix(x, spans.eps, spans.s)
        rows = places(~draws.decode, counts and len(x) - counts.decode)
        said = places(draws.decode, counts and counts.decode)
        again = places(draws.again[rows], counts and counts.again)
        some = Spans(spans.s[rows], spans.u[rows], spans.eps[rows], spans.instant[rows], spans.still)
        off = self.off(net, path, z[rows], some, draws.w[rows], again)
        square = row_mean(off.square().mean(-1), batch.mask[rows])
        weight = (square.detach() + self.eps) ** -self.power if self.power else None

        share = draws.share[said, :, None]
        noisy = share * x[said] + (1 - share) * self.like.decode_scale * draws.decode_eps[said]
        hidden = net.trunk(noisy, torch.ones_like(spans.s[said]), Given(w=draws.w[said]), draws.decode[said])
        nll = row_nll(net.nll, hidden, batch.ids[said], batch.mask[said], counts is not None)
        return means(square, weight, nll, draws.decode)

    def off(self, net: Speaker, path: Path, z: Latents, spans: Spans, w: Tensor, again: Places) -> Latents:
        """The student's guess less what it is to be, of denoising rows."""
        assert self.teacher is not None
        teacher, student, prev = quiet(self.teacher.module), quiet(net), torch.zeros_like(z)
        with torch.no_grad():
            prev[again] = teacher(z[again], spans.s[again], Given(w=w[again])).mean
        found = torch.zeros_like(z)
        still = places(spans.instant, spans.still)
        for rows, ask in ((still, instants), (places(~spans.instant, len(z) - len(still)), self.strides)):
            if len(rows) or in_many():
                given, ends = Given(prev[rows], w[rows]), (spans.s[rows], spans.u[rows])
                found = found.index_put((rows,), ask(teacher, student, path, z[rows], *ends, given))
        return found

    def strides(
        self, teacher: Guess, student: Guess, path: Path, z: Latents, s: Tensor, u: Tensor, given: Given
    ) -> Latents:
        """Errors of steps that have a length."""
        lesson = self.target(teacher, student, path, z, self.target.times(s, u, self.clock), given, none(z))
        guess = lesson.guess or student(z, s, given._replace(until=u))
        return guess.mean - lesson.goal.detach()


def instants(teacher: Guess, student: Guess, path: Path, z: Latents, s: Tensor, u: Tensor, given: Given) -> Latents:
    """Errors of rows of no length: the student is the teacher there."""
    with torch.no_grad():
        goal = teacher(z, s, given).mean
    return student(z, s, given._replace(until=s)).mean - goal
