"""Time schedules that are fitted to a generator and real text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from textflow.codecs import encode_batch
from textflow.runtime.rank_zero import rank_zero_info
from textflow.samplers import Prompt
from textflow.schedules import TimeSchedule
from textflow.schedules.base import require_ends, require_times
from textflow.types import Batch

if TYPE_CHECKING:
    from textflow.models.generator import Generator


def time_schedules(module: nn.Module) -> list[TimeSchedule]:
    """All time schedules of a module."""
    return [part for part in module.modules() if isinstance(part, TimeSchedule)]


def build_schedules(model: "Generator", vocab_size: int) -> None:
    """Give the time schedules of a model the number of tokens, and raise an error for one that is not of its path."""
    schedules = time_schedules(model)
    for schedule in schedules:
        schedule.build(vocab_size)
    require_times(schedules, model.path)
    require_ends(model.objective.time_schedule, model.path)


@torch.no_grad()
def fit_schedules(model: "Generator", batch: Batch, schedules: Sequence[TimeSchedule]) -> None:
    """Fit time schedules of a generator to real text; of pairs only the targets count."""
    with torch.random.fork_rng():
        x, prompt = encode_batch(model.codec, batch), None
        if batch.prompt_mask is not None:
            prompt = Prompt(x, model.codec.latent_mask(batch.prompt_mask), token_mask=batch.prompt_mask)
            batch = Batch(batch.ids, batch.loss_mask())
        torch.manual_seed(0)
        for schedule in schedules:  # predictions hold the prompt
            decode = model.decode_logits if schedule.needs_denoiser else model.codec.decode_logits
            schedule.fit(decode, model.path, x, batch, model.denoiser(prompt=prompt, text=x))
            times = ", ".join(f"{t:.2f}" for t in schedule.grid(8, t_min=model.path.t_min, t_max=model.path.t_max))
            rank_zero_info(f"Fitted the time schedule {type(schedule).__name__}: 8 steps fall on {times}")
