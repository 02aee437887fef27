"""Distillation: a student learns to do in one step what its teacher does in many."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from textflow.distill.base import Student, quiet
from textflow.distill.committing_teacher import Choosing
from textflow.distill.row_losses import means as means
from textflow.distill.row_losses import row_mean as row_mean
from textflow.distill.row_losses import row_nll, with_head
from textflow.distill.targets.base import Guess, Lesson, Target, Walk
from textflow.escapes.base import Gate
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser, Speaker
from textflow.objectives.elf import Draws, ELFObjective
from textflow.objectives.row_indices import Places, places
from textflow.paths.base import Path
from textflow.types import Batch, Choice, Given, Ids, Latents, Times, keep, pick


class Distill(Student):
    """Denoising rows regress a target, decoding rows the tokens; rows weigh alike (ELF, released code).

    Args:
        target: what the student's clean guess is to be.
        steps: of the student; a step is 1 / steps long.
        like: the objective that the teacher was trained with: its clock, guidance, decoding rows and coins.
        precision: of the teacher's passes: the `same` as the student's, or `bf16`, which changes the target [ours].
        renew: whether the student of one round teaches the next (2202.00512), which changes the target; or all learn
            from the first teacher (ELF).
        choose: gate of the positions where the teacher's guesses become their likeliest tokens, which changes the
            target to one that has chosen [ours]; default: none.
        fair: how much a teacher that chooses holds back the tokens that a text favours everywhere, in [0, 1), as the
            escape Fair does [ours].
    """

    average: Frozen | None
    embed: Callable[[Ids], Latents] | None

    def __init__(
        self,
        target: Target,
        steps: int = 16,
        like: ELFObjective | None = None,
        precision: Literal["same", "bf16"] = "same",
        renew: bool = False,
        choose: Gate | None = None,
        fair: float = 0.0,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a student of {steps} steps: it needs at least 1")
        if not 0 <= fair < 1 or (fair and choose is None):
            raise ValueError(f"fair is {fair}: it needs to be in [0, 1), and above 0 a gate `choose` such as All")
        self.target, self.steps, self.precision, self.renew = target, steps, precision, renew
        self.like, self.choose, self.fair = like or ELFObjective(), choose, fair
        self.teacher = None
        self.average = None  # of the student, where a target shall ask that rather than the student itself
        self.embed = None  # tokens -> clean latents, for a teacher that chooses

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(net, Speaker):
            raise ValueError(f"Distill trains a net with a decode mode (such as ELF); {type(net).__name__} has none")
        if self.teacher is None:
            raise ValueError("Distill has no teacher: name its run, `textflow distill RECIPE --teacher RUN`")
        draws = self.like.draw(x)
        return self.loss(net, path, x, batch, draws, self.walk(draws.t), batch.fixed)

    def walk(self, t: Times) -> Walk:
        """The times of a step that starts at t (1 - 1 / steps), and of what its teacher does on the way."""
        s = t * max(1 - 1 / self.steps, 1e-6)
        return self.target.times(s, s + 1 / self.steps, self.clock)

    def loss(
        self,
        net: Speaker,
        path: Path,
        x: Latents,
        batch: Batch,
        draws: Draws,
        times: Walk,
        fixed: Choice | None = None,
    ) -> dict[str, Tensor]:
        """The losses for given draws. The teacher sees denoising rows alone, and its blind guess is the first one of
        the rows that do not see it; the student makes one pass, with logits for valid tokens of decoding rows.

        Args:
            net: the student.
            path: how x is noised.
            x: clean latents.
            batch: ids and mask behind x.
            draws: of `like`; their t is not used.
            times: of each row's walk.
            fixed: True where a prompt stands: it is clean in z and in the self-condition, and not in the loss.
        """
        s, rows, counts = times[:, 0], ~draws.decode, self.like.counts(len(x))
        said, whole = places(draws.decode, counts and counts.decode), counts is not None
        told = places(rows, counts and len(x) - counts.decode)
        given = Given(w=draws.w, clean=None if fixed is None else x, fixed=fixed)
        valid = batch.mask if fixed is None else batch.mask & ~fixed
        z = keep(path.mix(x, draws.eps, s), given)
        again = places(draws.again[told], counts and counts.again)
        lesson = self.lesson(net, path, z[told], times[told], pick(given, told), again)

        prev = keep(torch.zeros_like(x), given)
        if lesson.prev is not None:
            prev[told] = lesson.prev
        part = draws.share[..., None]
        noisy = part * x + (1 - part) * self.like.decode_scale * draws.decode_eps
        hidden = net.trunk(
            torch.where(rows[:, None, None], z, noisy),
            torch.where(rows, s, 1.0),
            given._replace(prev=prev),
            draws.decode,
        )
        square = row_mean(((net.mean(hidden[told]) - lesson.goal) ** 2).mean(-1), valid[told])
        nll = row_nll(net.nll, hidden[said], batch.ids[said], valid[said], whole)
        losses = means(square, lesson.weight, nll, draws.decode)
        if net.head is None:
            return losses
        nll = row_nll(net.token_nll, hidden[told], batch.ids[told], valid[told], whole)
        return with_head(losses, nll, self.like, rows)

    def lesson(self, net: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Places) -> Lesson:
        """What the student is to answer at z."""
        assert self.teacher is not None
        with torch.no_grad(), self._precision(z):
            student = net if self.average is None else self.average.module
            return self.target(self.guide(path), quiet(student), path, z, times, given, again)

    def guide(self, path: Path) -> Guess:
        """The teacher as the target asks it."""
        assert self.teacher is not None
        net = self.teacher.module
        if self.choose is None:
            return quiet(net)
        if not isinstance(net, Speaker) or self.embed is None:
            raise ValueError("Distill(choose) needs a teacher that reads tokens and a codec that embeds them")
        return Choosing(net, self.choose, self.embed, path, self.like.decode_scale, self.fair)

    def _precision(self, z: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(z.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
