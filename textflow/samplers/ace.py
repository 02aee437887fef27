"""ACE (2607.00588): the self-condition is moved away from repetition."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.samplers.base import Sampler, State
from textflow.samplers.ode import Euler
from textflow.types import Denoise, Latents, Posterior


@dataclass(eq=False)
class ACE(Sampler):
    """Steps of `sampler` in which the network is conditioned on its last prediction minus scale d at every position; d
    is the unit direction of repetition (ACE, 2607.00588). z is carried by the predictions themselves.

    `textflow.load` estimates d from samples of the run, and stores it beside the schedules. The source gives scale,
    number of samples and the thirds; [ours]: the samples' steps and seeds, that d belongs to the sampler, escape and
    schedule of the run, that padding is not repetition, and that a prompt of a trained network stays clean.

    Args:
        sampler: sampler of the steps, by which d is estimated too.
        scale: length of the move in latent units; 0 is `sampler`. The source's 2 (1.5 to 5 work) is for ELF-B, whose
            latents have 768 entries of variance 1.
        num_samples: number of samples of the estimate, at least 6.
        num_steps: number of steps of each.
    """

    sampler: Sampler = Euler()
    scale: float = 2.0
    num_samples: int = 400
    num_steps: int = 32
    direction: Float[Tensor, " d"] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_samples < 6 or self.num_steps < 1:
            raise ValueError(
                f"ACE got num_samples {self.num_samples} and num_steps {self.num_steps}; it needs 6 samples, for two in"
                " a third, and a step"
            )

    def step(self, denoise: Denoise, path: ProbPath, state: State, t_next: float, noise: Noise) -> State:
        if self.direction is None:
            raise ValueError(
                "ACE has no direction yet: lay it over a trained run, as in textflow sample RUN "
                "recipes/sampler/ace.yaml, or call models.repetition.fit_ace"
            )
        move = self.scale * self.direction.to(state.z)

        def steered(
            z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
        ) -> Posterior:
            return denoise(z, t, None if self_cond is None else self_cond - move, t_next, carry)

        return self.sampler.step(steered, path, state, t_next, noise)


class RepetitionDirection(NamedTuple):
    """The direction in which predictions of repetitive samples differ from those of varied ones.

    Args:
        direction: unit vector [d], float64.
        angle: angle that the direction of infinitely many samples is within, with probability .95, radians; pi / 2 is
            no estimate.
        most: mean seq-rep-4 of the most repetitive third.
        least: that of the least repetitive third.
    """

    direction: Float[Tensor, " d"]
    angle: float
    most: float
    least: float


def repetition_direction(
    means: Float[Tensor, "n d"], repetition: Float[Tensor, " n"], num_resamples: int = 200
) -> RepetitionDirection:
    """d = unit(mean of the most repetitive third - mean of the least repetitive third) (ACE). The angle is the 95 %
    point over resamples of the samples, of the error across d [ours].

    Args:
        means: prediction of each sample, a mean over positions and steps, latent units.
        repetition: seq-rep-4 of each sample, in [0, 1].
        num_resamples: number of resamples, each with its own thirds.
    """
    means, third = means.double(), len(means) // 3
    ranked = repetition.sort(stable=True).values
    most, least = float(ranked[-third:].mean()), float(ranked[:third].mean())
    if most <= least:
        raise ValueError(
            f"no sample of {len(means)} repeats itself more than another (seq-rep-4 {most:.3f}), so ACE has no "
            "direction; leave it out"
        )
    difference = difference_of_thirds(means, repetition)
    direction = difference / difference.norm()
    draws = torch.randint(len(means), (num_resamples, len(means)), generator=torch.Generator().manual_seed(0))
    errors = torch.stack([difference_of_thirds(means[i], repetition[i]) for i in draws.to(means.device)]) - difference
    across = (errors - (errors @ direction)[:, None] * direction).norm(dim=1).quantile(0.95)
    return RepetitionDirection(direction, float((across / difference.norm()).clamp_max(1).asin()), most, least)


def difference_of_thirds(means: Float[Tensor, "n d"], repetition: Float[Tensor, " n"]) -> Float[Tensor, " d"]:
    """Mean over the samples of the highest third of repetition minus that over the lowest."""
    order, third = repetition.argsort(stable=True), len(means) // 3
    return means[order[-third:]].mean(0) - means[order[:third]].mean(0)
