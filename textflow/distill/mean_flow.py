"""Mean flows (2505.13447): a net for the mean velocity of every step, trained from the data or from a teacher."""

from typing import Literal

import torch
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.distill.base import FlowObjective
from textflow.distill.flow_map import TimePairs
from textflow.distill.targets.base import TargetInput
from textflow.distill.targets.mean_flow import MeanFlow, mean_velocity_gain
from textflow.nets.base import Denoiser
from textflow.objectives.row_indices import no_rows
from textflow.paths import LinearPath, ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.logit_normal import LogitNormal
from textflow.types import Batch, Conditioning, Latents, RowMask, Times


class MeanFlowObjective(FlowObjective):
    """The squared error of the mean velocity, summed over a row and divided by a power of itself (2505.13447, sec. 4).

    Args:
        start_schedule: schedule of one time (released code, with t = 0 as noise).
        end_schedule: schedule of the other time.
        interval_prob: fraction of rows whose step has a length, in [0, 1].
        pairing: `ordered` sorts the two times, then sets the length of some rows to 0; `pushed` sets it first, then
            moves an end before its start to the start.
        adaptive_weight_power: power of the error that the error is divided by, in [0, 1]; 0 is the plain square.
        eps: constant that is added to the divisor, > 0.
    """

    def __init__(
        self,
        start_schedule: TimeSchedule | None = None,
        end_schedule: TimeSchedule | None = None,
        interval_prob: float = 0.75,
        pairing: Literal["ordered", "pushed"] = "ordered",
        adaptive_weight_power: float = 0.75,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(MeanFlow())
        self.start_schedule = start_schedule or LogitNormal(0.6, 1.6)
        self.end_schedule = end_schedule or LogitNormal(4.0, 1.6)
        self.interval_prob, self.pairing = interval_prob, pairing
        self.adaptive_weight_power, self.eps = adaptive_weight_power, eps

    @property
    def time_schedule(self) -> TimeSchedule:  # type: ignore[override]
        """Schedule of the start times."""
        return self.start_schedule

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        x, batch = encode_batch(codec, batch), latent_batch(codec, batch)
        return self.loss(net, path, x, batch, self.sample_pairs(x))

    def sample_pairs(self, x: Latents) -> TimePairs:
        """Random numbers of one step, for latents of x's shape."""
        diagonal = torch.rand(len(x), device=x.device) >= self.interval_prob
        start, end = (schedule.sample(len(x), device=x.device) for schedule in (self.start_schedule, self.end_schedule))
        return TimePairs(*self.pair_times(start, end, diagonal), torch.randn_like(x), diagonal)

    def pair_times(self, s: Times, u: Times, diagonal: RowMask) -> tuple[Times, Times]:
        """Start and end of each row's step, from a pair of times."""
        if self.pairing == "ordered":
            s, u = torch.minimum(s, u), torch.maximum(s, u)
        u = torch.where(diagonal, s, u)
        return s, torch.maximum(s, u)

    def loss(self, net: Denoiser, path: ProbPath, x: Latents, batch: Batch, pairs: TimePairs) -> dict[str, Tensor]:
        """The losses for given draws; the forward-mode pass also carries the gradient.

        Args:
            net: student, conditioned on the end of its step.
            path: probability path that the latents follow.
            x: clean latents [B, S, d].
            batch: masks of the latents (`latent_batch`).
            pairs: random numbers of this step.
        """
        s, z = pairs.s, path.mix(x, pairs.eps, pairs.s)
        times = torch.stack([s, pairs.u], 1)
        output = self.target(TargetInput(self.teacher_or_data(x), net, path, z, times, Conditioning(), no_rows(z)))
        assert output.prediction is not None
        if isinstance(path, LinearPath):
            error = path.velocity(z, output.prediction.mean, s) - path.velocity(z, output.x0_target, s)
        else:
            gain = mean_velocity_gain(path, s, pairs.u).to(z.dtype)
            error = gain * (output.prediction.mean - output.x0_target)
        square = ((error**2).sum(-1) * batch.mask).sum(1)
        weight = (square.detach() + self.eps) ** self.adaptive_weight_power
        return {"loss": (square / weight).mean(), "velocity_mse": square.detach().mean()}
