"""TimeSchedule: a distribution over time, for training times and for the sampling grid."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.types import Batch, Denoise, Latents, Logits

Decode: TypeAlias = Callable[[Latents], Logits]  # clean or noisy latents -> logits

LOGIT_BUDGET = 2**26  # logits in memory at once while a schedule is fitted


def argmax_tokens(decode: Decode, z: Latents) -> Tensor:
    """The likeliest tokens of z [B, S, d], in chunks of rows that bound the logits in memory."""
    rows = max(LOGIT_BUDGET // max(decode(z[:1])[0].numel(), 1), 1)
    return torch.cat([decode(part).argmax(-1) for part in z.split(rows)])  # type: ignore[no-untyped-call]


def is_fitted(buffer: Tensor) -> bool:
    """True if a buffer holds a fitted schedule; before the fit it is NaN. The result is cached per state of the buffer,
    since checking it makes the host wait for a GPU."""
    state = (buffer.data_ptr(), buffer._version)
    if getattr(buffer, "_known_at", None) != state:
        buffer._known, buffer._known_at = not bool(buffer.isnan().any()), state  # type: ignore[attr-defined]
    return buffer._known  # type: ignore[attr-defined]


def interpolate_inverse(table: Tensor, values: Tensor) -> Tensor:
    """Times in [0, 1] at which an increasing function takes these values, by linear interpolation.

    Args:
        table: the function at evenly spaced times from 0 to 1.
        values: any shape, on the table's device.
    """
    right = torch.searchsorted(table, values.contiguous()).clamp(1, len(table) - 1)
    low, high = table[right - 1], table[right]
    return ((right - 1 + (values - low) / (high - low).clamp_min(1e-300)) / (len(table) - 1)).clamp(0, 1)


def stratified_uniform(rows: int, device: torch.device | None = None) -> Tensor:
    """One uniform number in each of `rows` equal parts of [0, 1), in random order, float64."""
    order = torch.randperm(rows, device=device)
    return ((torch.arange(rows, device=device) + torch.rand(rows, device=device, dtype=torch.float64)) / rows)[order]


class TimeSchedule(nn.Module, ABC):
    """A distribution over time, given by its quantiles. A module, so that weights include a fitted schedule."""

    needs_denoiser: bool = False  # whether fitting needs a trained denoiser

    @property
    def fitted(self) -> bool:
        """True if the schedule needs no fit or is fitted."""
        return all(is_fitted(buffer) for buffer in self.buffers(recurse=False))

    @property
    def log_snr(self) -> bool:
        """True if its times are log signal-to-noise ratios, rather than numbers in [0, 1]; so are those of its path."""
        return False

    @property
    def t_last(self) -> float:
        """Last time of a law that ends before its path: a flow map has learned no step beyond it."""
        return math.inf

    @property
    def cache_key(self) -> str:
        """Key of the fitted schedule: for one model, schedules with equal keys are equal."""
        return "-".join([type(self).__name__, *(str(len(table)) for table in self.buffers(recurse=False))])

    def build(self, vocab_size: int) -> None:  # noqa: B027  most do not depend on it
        """Take the number of tokens of the codec; a generator calls it once."""

    def assume_uniform(self) -> None:
        """Use the uniform schedule where nothing can be fitted yet: for a dry run."""

    @abstractmethod
    def icdf(self, q: Tensor) -> Tensor:
        """Quantiles q in [0, 1], float64 -> times, increasing; in [0, 1] unless `log_snr`."""

    def fit(self, decode: Decode, path: ProbPath, x: Latents, batch: Batch, denoise: Denoise | None = None) -> None:
        """Fit a schedule that depends on the codec or on the denoiser; the others need no fit.

        Args:
            decode: clean latents -> logits.
            path: probability path that the latents follow.
            x: clean latents of the batch [B, S, d].
            batch: token ids and masks behind x.
            denoise: trained denoiser; None if there is none.
        """

    def sample(self, *shape: int, device: torch.device | None = None) -> Tensor:
        """Random times [*shape], float32, from torch's global generator."""
        return self.icdf(torch.rand(shape, dtype=torch.float64, device=device)).float()

    def sample_stratified(self, rows: int, device: torch.device | None = None) -> Tensor:
        """A time per row [rows], float32, one in each of as many equal parts of the law, in random order."""
        return self.icdf(stratified_uniform(rows, device)).float()

    def grid(self, steps: int, noise: Noise | None = None, t_min: float = 0.0, t_max: float = 1.0) -> list[float]:
        """steps + 1 increasing times from t_min to t_max.

        Args:
            steps: number of steps.
            noise: random stream of the interior times (ELF's released code); None takes the quantiles i / steps.
            t_min: noisy end of the path.
            t_max: clean end of the path.
        """
        if steps < 1:
            raise ValueError(f"a grid of {steps} steps: it needs at least 1")
        q = torch.arange(1, steps, dtype=torch.float64) / steps
        if noise is not None:
            q = noise.uniform(steps - 1)[0].sort().values
        device = next((buffer.device for buffer in self.buffers()), None)
        if not self.log_snr and (t_min, t_max) != (0.0, 1.0):  # the law between these ends
            first, last = self.probability_below(t_min, device), self.probability_below(t_max, device)
            q = first + (last - first) * q
        return [t_min, *self.icdf(q.to(device)).clamp(t_min, t_max).tolist(), t_max]

    def probability_below(self, t: float, device: torch.device | None = None) -> float:
        """Probability of a time below t, by bisection of the quantiles."""
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            below = float(self.icdf(torch.tensor([middle], dtype=torch.float64, device=device))) < t
            low, high = (middle, high) if below else (low, middle)
        return low if high == 1 else high


def require_times(schedules: Iterable[TimeSchedule], path: ProbPath) -> None:
    """Raise an error for a schedule whose times are not those of the path."""
    if wrong := next((schedule for schedule in schedules if schedule.log_snr != path.log_snr), None):
        own, other = type(wrong).__name__, f"{type(path).__name__} runs from {path.t_min:g} to {path.t_max:g}"
        raise ValueError(
            f"the schedule {own} draws log signal-to-noise ratios, but the path {other}; use Uniform or LogitNormal"
            if wrong.log_snr
            else f"the schedule {own} draws times in [0, 1], but the path {other} in log signal-to-noise ratio; use "
            "Gumbel, or Uniform with t_min and t_max in that range"
        )


def require_ends(schedule: TimeSchedule, path: ProbPath) -> None:
    """Raise an error for training times that lie beyond the ends of a path in [0, 1]."""
    if path.log_snr or (path.t_min, path.t_max) == (0, 1) or not schedule.fitted:
        return
    first, last = schedule.icdf(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    if first < path.t_min - 1e-6 or last > path.t_max + 1e-6:
        raise ValueError(
            f"the schedule {type(schedule).__name__} draws times from {first:g} to {last:g}, but {type(path).__name__} "
            f"runs from {path.t_min:g} to {path.t_max:g}; use Uniform with t_min: {path.t_min:g} and t_max: "
            f"{path.t_max:g}"
        )


class RandomGrid(TimeSchedule):
    """A schedule whose grids are sorted random times instead of quantiles (ELF, released code).

    ELF draws a grid for every batch; here the seed gives one grid for all, so that no text depends on its batch.

    Args:
        schedule: distribution of the times.
        seed: random seed for the grid.
    """

    def __init__(self, schedule: TimeSchedule, seed: int = 0) -> None:
        super().__init__()
        self.schedule, self.seed = schedule, seed

    @property
    def log_snr(self) -> bool:
        return self.schedule.log_snr

    @property
    def t_last(self) -> float:
        return self.schedule.t_last

    def icdf(self, q: Tensor) -> Tensor:
        return self.schedule.icdf(q)

    def grid(self, steps: int, noise: Noise | None = None, t_min: float = 0.0, t_max: float = 1.0) -> list[float]:
        return self.schedule.grid(steps, noise or Noise([self.seed]), t_min, t_max)
