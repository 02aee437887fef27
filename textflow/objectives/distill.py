"""Distillation: a student learns to do in one step what its teacher does in many."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from textflow.clocks.base import Clock
from textflow.nets.base import Denoiser, Speaker
from textflow.nets.frozen import Frozen
from textflow.objectives.base import Objective
from textflow.objectives.elf import Draws, ELFObjective
from textflow.paths.base import Path
from textflow.targets.base import Guess, Lesson, Target, Walk, keep, pick
from textflow.types import Batch, Choice, Given, Ids, Latents, Mask, Posterior, Rows, Times


class Distill(Objective):
    """Denoising rows regress a target, decoding rows the tokens; rows weigh alike (ELF, released code).

    Args:
        target: what the student's clean guess is to be.
        steps: of the student; a step is 1 / steps long.
        like: the objective that the teacher was trained with: its clock, guidance, decoding rows and coins.
        precision: of the teacher's passes: the `same` as the student's, or `bf16`, which changes the target [ours].
        renew: whether the student of one round teaches the next (2202.00512), which changes the target; or all learn
            from the first teacher (ELF).
    """

    teacher: Frozen | None
    average: Frozen | None

    def __init__(
        self,
        target: Target,
        steps: int = 16,
        like: ELFObjective | None = None,
        precision: Literal["same", "bf16"] = "same",
        renew: bool = False,
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"a student of {steps} steps: it needs at least 1")
        self.target, self.steps, self.precision, self.renew = target, steps, precision, renew
        self.like = like or ELFObjective()
        self.teacher = None
        self.average = None  # of the student, where a target shall ask that rather than the student itself

    @property
    def clock(self) -> Clock:
        """The law of the starts of steps, but for their room before 1."""
        return self.like.clock

    def learn_from(self, objective: Objective, teacher: Denoiser) -> None:
        """Take a teacher, and what `like` has of buffers: a clock that was measured.

        Args:
            objective: that the teacher was trained for, as an ELF or as a student of one.
            teacher: trained.
        """
        taught = objective.like if isinstance(objective, Distill) else objective
        if not isinstance(taught, ELFObjective):
            raise ValueError(
                f"Distill needs a teacher that ELFObjective trained, but this one learned by {type(taught).__name__}"
            )
        if taught.state_dict().keys() == self.like.state_dict().keys():
            self.like.load_state_dict(taught.state_dict())
        self.teacher = Frozen(teacher)

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        if not isinstance(net, Speaker):
            raise ValueError(f"Distill trains a net with a decode mode (such as ELF); {type(net).__name__} has none")
        if self.teacher is None:
            raise ValueError("Distill has no teacher: name its run, `textflow distill RECIPE --teacher RUN`")
        draws = self.like.draw(x)
        return self.loss(net, path, x, batch, draws, self.walk(draws.t))

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
        s, rows = times[:, 0], ~draws.decode
        given = Given(w=draws.w, clean=None if fixed is None else x, fixed=fixed)
        valid = batch.mask if fixed is None else batch.mask & ~fixed
        z = keep(path.mix(x, draws.eps, s), given)
        lesson = self.lesson(net, path, z[rows], times[rows], pick(given, rows), draws.again[rows])

        prev = keep(torch.zeros_like(x), given)
        if lesson.prev is not None:
            prev[rows] = lesson.prev
        part = draws.share[..., None]
        noisy = part * x + (1 - part) * self.like.decode_scale * draws.decode_eps
        hidden = net.trunk(
            torch.where(rows[:, None, None], z, noisy),
            torch.where(rows, s, 1.0),
            given._replace(prev=prev),
            draws.decode,
        )
        square = row_mean(((net.mean(hidden[rows]) - lesson.goal) ** 2).mean(-1), valid[rows])
        nll = row_nll(net.nll, hidden[draws.decode], batch.ids[draws.decode], valid[draws.decode])
        losses = means(square, lesson.weight, nll, draws.decode)
        if net.head is None:
            return losses
        return with_head(losses, row_nll(net.token_nll, hidden[rows], batch.ids[rows], valid[rows]), self.like, rows)

    def lesson(self, net: Guess, path: Path, z: Latents, times: Walk, given: Given, again: Rows) -> Lesson:
        """What the student is to answer at z."""
        assert self.teacher is not None
        with torch.no_grad(), self._precision(z):
            student = net if self.average is None else self.average.module
            return self.target(quiet(self.teacher.module), quiet(student), path, z, times, given, again)

    def _precision(self, z: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(z.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def row_mean(values: Tensor, valid: Mask) -> Tensor:
    """Each row's mean over its valid tokens, [B, S] -> [B]; 0 where there is none."""
    return (values * valid).sum(1) / valid.sum(1).clamp_min(1)


def quiet(net: Guess) -> Guess:
    """A net's clean guesses, without the token logits of a commitment head."""
    if not isinstance(net, Speaker):
        return net

    def guess(z: Latents, t: Times, given: Given = Given()) -> Posterior:
        return Posterior(net.mean(net.trunk(z, t, given)))

    return guess


def row_nll(nll: Callable[[Tensor, Tensor], Tensor], hidden: Tensor, ids: Ids, valid: Mask) -> Tensor:
    """Sum over rows of the mean -log p of their valid tokens: one call for all rows of one length.

    Args:
        nll: states and ids of tokens -> the sum over them.
        hidden: of some rows.
        ids: of the same.
        valid: which of them count.
    """
    lengths, total = valid.sum(1), hidden.new_zeros(())
    for length in sorted({*lengths.tolist()} - {0}):
        said = valid & (lengths == length)[:, None]
        total = total + nll(hidden[said], ids[said]) / length
    return total


def means(square: Tensor, weight: Tensor | None, nll: Tensor, decode: Rows) -> dict[str, Tensor]:
    """Errors of the denoising rows and the sum of the decoding rows' -> the mean over all rows, and each part's own."""
    weighted = square if weight is None else weight * square
    said = decode.sum()
    return {
        "loss": (weighted.sum() + nll) / max(len(decode), 1),
        "l2": square.detach().sum() / (len(decode) - said).clamp_min(1),
        "ce": nll.detach() / said.clamp_min(1),
    }


def with_head(losses: dict[str, Tensor], nll: Tensor, like: ELFObjective, rows: Rows) -> dict[str, Tensor]:
    """The losses with a commitment head's sum over denoising rows, under the same denominator."""
    loss = losses["loss"] + like.head_weight * nll / max(len(rows), 1)
    return losses | {"loss": loss, "head": nll.detach() / rows.sum().clamp_min(1)}
