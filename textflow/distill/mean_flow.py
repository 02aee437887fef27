"""Mean flows (2505.13447): a net for the mean velocity of every step, from the data alone or from a teacher."""

from typing import Literal

import torch
from torch import Tensor

from textflow.distill.flow_map import Spans
from textflow.distill.targets.base import Data, Guess
from textflow.distill.targets.mean_flow import MeanFlow
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser
from textflow.objectives.base import Objective
from textflow.objectives.row_indices import none
from textflow.paths.base import Path
from textflow.schedules.base import Clock
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Given, Latents, Rows, Times


class MeanFlowObjective(Objective):
    """The square of the mean velocity's error, summed over a row, over its own power (2505.13447, sec. 4).

    Args:
        start: law of one time (released code; turned round, t = 0 is noise).
        end: law of the other.
        length: share of rows whose step has a length, in [0, 1].
        pair: `ordered` sorts the two times, then takes the length from some rows; `pushed` takes it first, then moves
            an end that lies before its start to the start.
        power: of the error that it is divided by, in [0, 1]; 0 is the plain square.
        eps: added to the error there, > 0.
    """

    teacher: Frozen | None

    def __init__(
        self,
        start: Clock | None = None,
        end: Clock | None = None,
        length: float = 0.75,
        pair: Literal["ordered", "pushed"] = "ordered",
        power: float = 0.75,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.start, self.end = start or LogitNormal(0.6, 1.6), end or LogitNormal(4.0, 1.6)
        self.length, self.pair, self.power, self.eps = length, pair, power, eps
        self.target = MeanFlow()
        self.teacher = None  # the data teach

    def learn_from(self, objective: Objective, teacher: Denoiser) -> None:
        """Take a teacher, in place of the data.

        Args:
            objective: that it was trained for; any.
            teacher: trained on the same latents and path.
        """
        self.teacher = Frozen(teacher)

    def forward(self, net: Denoiser, path: Path, x: Latents, batch: Batch) -> dict[str, Tensor]:
        return self.loss(net, path, x, batch, self.draw(x))

    def draw(self, x: Latents) -> Spans:
        """The random numbers of one step, for latents of x's shape."""
        instant = torch.rand(len(x), device=x.device) >= self.length
        one, other = (clock.draw(len(x), device=x.device) for clock in (self.start, self.end))
        return Spans(*self.span(one, other, instant), torch.randn_like(x), instant)

    def span(self, s: Times, u: Times, instant: Rows) -> tuple[Times, Times]:
        """Start and end of each row, from a pair of times."""
        if self.pair == "ordered":
            s, u = torch.minimum(s, u), torch.maximum(s, u)
        u = torch.where(instant, s, u)
        return s, torch.maximum(s, u)

    def loss(self, net: Denoiser, path: Path, x: Latents, batch: Batch, spans: Spans) -> dict[str, Tensor]:
        """The losses for given draws. The pass that differentiates carries the gradient, too.

        Args:
            net: is told the end of its step.
            path: how x is noised.
            x: clean latents.
            batch: ids and mask behind x.
            spans: the draws.
        """
        s, z = spans.s, path.mix(x, spans.eps, spans.s)
        teacher: Guess = Data(x) if self.teacher is None else self.teacher
        lesson = self.target(teacher, net, path, z, torch.stack([s, spans.u], 1), Given(), none(z))
        assert lesson.guess is not None
        off = path.velocity(z, lesson.guess.mean, s) - path.velocity(z, lesson.goal, s)
        square = ((off**2).sum(-1) * batch.mask).sum(1)
        weight = (square.detach() + self.eps) ** self.power
        return {"loss": (square / weight).mean(), "square": square.detach().mean()}
