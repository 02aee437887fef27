"""Sampling methods that the ranking compares, and their frozen grids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from textflow.escapes import Commit, Escape, LogitAdjustment, LowConfidence, NoEscape, Sharpen
from textflow.noise import Noise
from textflow.oracle import OracleTask, decode_masked
from textflow.readouts import FromCodec, FromPosterior, Readout
from textflow.samplers import Ancestral, DPMSolverPP2M, Euler, LowNoiseResample, Reinject, Sampler, SkipFirstCall
from textflow.schedules import TimeSchedule
from textflow.types import Ids

SampleTexts = Callable[[OracleTask, list[float], list[int]], Ids]
NFE_VALUES = (2, 3, 4, 6, 8, 16)
SEARCH_SEED = 9000  # seed of the oracle tasks used for the grid search
TUNED_GRIDS: dict[str, dict[int, tuple[float, float]]] = {  # LogitNormal(mean, std) by calls, searched on 3 tasks
    "soft": {2: (0.3, 0.2), 3: (0.0, 0.6), 4: (-0.1, 0.5), 6: (-0.1, 0.5), 8: (-0.1, 0.5), 16: (-0.4, 0.5)},
    "reinject": {2: (0.3, 0.2), 3: (0.3, 0.6), 4: (0.3, 0.5), 6: (0.2, 0.6), 8: (0.1, 0.5), 16: (0.1, 0.4)},
    "sampled": {2: (0.2, 0.2), 3: (0.0, 0.3), 4: (0.0, 0.3), 6: (-0.1, 0.3), 8: (-0.2, 0.4), 16: (-0.2, 0.4)},
    "commit": {2: (0.2, 0.2), 3: (-0.1, 0.3), 4: (-0.2, 0.4), 6: (-0.3, 0.4), 8: (-0.2, 0.4), 16: (-0.2, 0.3)},
}
FLIP_RATES = {  # flip rates at the first and the last interior time, searched on the same tasks; of commit on 12
    "soft": (0.4, 0.03),
    "reinject": (0.4, 0.03),
    "sampled": (0.4, 0.03),
    "commit": (0.3, 0.05),
    "low_noise": (0.2, 0.15),
}

CORRUPTIONS: dict[str, dict[str, Any]] = {  # imperfect denoisers, by name
    "underfit .3": {"forget_share": 0.3},
    "sharpened, power 2": {"beta": 2.0},
    "error field of 1 nat": {"logit_error": 1.0},
}
CORRUPTION_METHODS = (
    *("ODE, argmax gamma", "Reinject code .5", "Reinject code 1.5", "Reinject marginal_preserving 1.5"),
    *("mode commit", "mode commit, logit-adjusted", "tube commit"),
    *("low-noise: mode", "low-noise: mode, logit-adjusted", "low-noise: sharpened, logit-adjusted"),
)

# Forms of commitment to the mode.
MODE_METHODS = ("mode commit", "mode commit, logit-adjusted", "low-noise: mode, logit-adjusted")
VERDICT_METHODS = (*MODE_METHODS, "low-noise: sharpened, logit-adjusted")


def fresh_seed(seed: int) -> int:
    """Seed of the first of a run's 100 oracle tasks, disjoint from the search tasks."""
    return 10_000 + 100 * seed


class FixedGrid(TimeSchedule):
    """Time schedule with given times.

    Args:
        times: increasing times, from the noisy to the clean end of a path.
        log_snr: whether they are log signal-to-noise ratios.
    """

    def __init__(self, times: Sequence[float], log_snr: bool = False) -> None:
        super().__init__()
        self.times, self.own_log_snr = list(times), log_snr

    @property
    def log_snr(self) -> bool:
        return self.own_log_snr

    def icdf(self, q: Tensor) -> Tensor:
        raise NotImplementedError("a fixed grid has no distribution of times")

    def grid(self, steps: int, noise: Noise | None = None, t_min: float = 0.0, t_max: float = 1.0) -> list[float]:
        assert steps == len(self.times) - 1, f"{steps} steps of {len(self.times)} times"
        return self.times


@dataclass(frozen=True)
class SamplingMethod:
    """Sampling method from noise to text.

    Args:
        name: name in the tables.
        sample_texts: function (task, times, seeds) -> texts.
        grid_kind: key of its tuned grid; empty for a method without times.
        grids: time grids that it is measured on.
        nfe_values: supported numbers of network calls.
        free_steps: number of steps without a network call.
    """

    name: str
    sample_texts: SampleTexts
    grid_kind: str
    grids: tuple[str, ...] = ("tuned", "flip")
    nfe_values: tuple[int, ...] = NFE_VALUES
    free_steps: int = 0


def make_sampler(sampler: Sampler, escape: Escape = NoEscape(), readout: Readout = FromPosterior()) -> SampleTexts:
    """Sampling function that uses the sampling loop of trained models."""

    def sample_texts(task: OracleTask, times: list[float], seeds: list[int]) -> Ids:
        return task.make_generator(readout, escape, sampler, FixedGrid(times)).sample(seeds, len(times) - 1).ids

    return sample_texts


@torch.no_grad()
def sample_staggered(task: OracleTask, times: list[float], seeds: list[int]) -> Ids:
    """Tube commit where even positions run ahead of odd ones, logit(t) +- d; d = .9 at 2 calls, else .3 [ours].

    Inside the tube the mode is re-noised; elsewhere the mean updates z.
    """
    noise, inner = Noise(seeds), torch.tensor(times[1:-1], dtype=torch.float64)
    shift = (0.9 if len(inner) == 1 else 0.3) * (1 - 2 * (torch.arange(task.length) % 2)).double()
    t, z = torch.zeros(task.length, dtype=torch.float64), noise.normal(task.length, task.codec.dim).double()
    z = z * task.path.noise_scale
    for u in torch.sigmoid(torch.logit(inner)[:, None] + shift):  # [L]
        belief = task.denoiser.posterior(z, t.expand(len(seeds), -1))
        assert belief.logits is not None
        fresh, a, s = noise.normal_like(z), u[:, None], task.path.sigma(u)[:, None]
        inside = (belief.logits.exp().amax(-1, keepdim=True) < 0.8) & (t > 0)[:, None]
        committed = a * task.codec.codes[belief.logits.argmax(-1)] + s * fresh
        z, t = torch.where(inside, committed, torch.lerp(z, belief.mean, ((u - t) / (1 - t))[:, None])), u
    last = task.denoiser.posterior(z, t.expand(len(seeds), -1)).logits
    assert last is not None
    return last.argmax(-1)


def sample_jointly(task: OracleTask, times: list[float], seeds: list[int]) -> Ids:
    """Joint readout of pure noise, p(y | z_0) = p(y): exact at any number of calls, the zero line."""
    noise = Noise(seeds)
    z = noise.normal(task.length, task.codec.dim)
    return task.exact_posterior.sample_joint(z, torch.zeros(z.shape[:2], dtype=torch.float64), noise)


def sample_unmasked(order: Literal["random", "dilated"], task: OracleTask, times: list[float], seeds: list[int]) -> Ids:
    """Masked sampling that unmasks equal groups of positions, one group per call; each token is sampled."""
    return decode_masked(task, len(times) - 1, Noise(seeds), order).ids


ALL_GRIDS = ("tuned", "flip", "elf")
METHODS = [
    SamplingMethod("joint readout (zero line)", sample_jointly, "", ("none",)),
    SamplingMethod("ODE, read(x_hat)", make_sampler(Euler(), readout=FromCodec()), "soft", ALL_GRIDS),
    SamplingMethod("ODE, argmax gamma", make_sampler(Euler()), "soft", ALL_GRIDS),
    SamplingMethod("DPM-Solver++(2M), argmax gamma", make_sampler(DPMSolverPP2M()), "soft"),
    SamplingMethod("Reinject code .5", make_sampler(Reinject(0.5, "code")), "reinject"),
    SamplingMethod("Reinject code 1.5", make_sampler(Reinject(1.5, "code")), "reinject", ALL_GRIDS),
    SamplingMethod("Reinject marginal_preserving .5", make_sampler(Reinject(0.5, "marginal_preserving")), "reinject"),
    SamplingMethod("Reinject marginal_preserving 1.5", make_sampler(Reinject(1.5, "marginal_preserving")), "reinject"),
    SamplingMethod("masked, random", partial(sample_unmasked, "random"), "", ("none",)),
    SamplingMethod("masked, dilated", partial(sample_unmasked, "dilated"), "", ("none",), (2, 4, 8, 16)),
    SamplingMethod("sampled commit", make_sampler(Ancestral(), Commit("sample")), "sampled"),
    SamplingMethod("mode commit", make_sampler(Ancestral(), Commit()), "commit", ALL_GRIDS),
    SamplingMethod("mode commit, logit-adjusted", make_sampler(Ancestral(), LogitAdjustment(Commit())), "commit"),
    SamplingMethod("tube commit", make_sampler(Ancestral(1.0, 0.0), Commit(gate=LowConfidence(0.8))), "commit"),
    SamplingMethod("tube commit, staggered", sample_staggered, "commit"),
    SamplingMethod("low-noise: mode", make_sampler(LowNoiseResample(0.5), Commit()), "low_noise", ("flip",)),
    SamplingMethod("low-noise: sharpened", make_sampler(LowNoiseResample(0.0), Sharpen()), "low_noise", ("flip",)),
    SamplingMethod(
        "low-noise: mode, logit-adjusted",
        make_sampler(LowNoiseResample(0.5), LogitAdjustment(Commit())),
        "low_noise",
        ("flip",),
    ),
    SamplingMethod(
        "low-noise: sharpened, logit-adjusted",
        make_sampler(LowNoiseResample(0.0), LogitAdjustment(Sharpen())),
        "low_noise",
        ("flip",),
    ),
    SamplingMethod("skip_first + ODE", make_sampler(SkipFirstCall(Euler())), "soft", ("flip",), free_steps=1),
    SamplingMethod(
        "skip_first + mode commit",
        make_sampler(SkipFirstCall(Ancestral()), Commit()),
        "commit",
        ("flip",),
        free_steps=1,
    ),
    SamplingMethod(
        "skip_first + low-noise: mode",
        make_sampler(SkipFirstCall(LowNoiseResample(0.5)), Commit()),
        "low_noise",
        ("flip",),
        free_steps=1,
    ),
]
METHODS_BY_NAME = {method.name: method for method in METHODS}
REINJECT_METHODS = tuple(name for name in METHODS_BY_NAME if name.startswith("Reinject"))
COMPARED_METHODS = ("ODE, read(x_hat)", "ODE, argmax gamma", *REINJECT_METHODS, *VERDICT_METHODS)  # for a verdict
