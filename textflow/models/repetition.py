"""The direction of repetition of a generator, estimated from its samples for ACE (2607.00588)."""

import math

import torch
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from textflow.metrics import sequence_repetition
from textflow.models.generator import Generator
from textflow.noise import sample_seeds
from textflow.runtime.rank_zero import rank_zero_info
from textflow.samplers import ACE, RepetitionDirection, repetition_direction
from textflow.types import Conditioning

SEED = 607588  # samples of the estimate share no noise with those of a user's small seeds
BATCH = 32


@torch.no_grad()
def fit_ace(model: Generator) -> RepetitionDirection:
    """Estimate the direction of the generator's ACE from samples of the sampler within it, and set it."""
    ace = model.sampler
    if not isinstance(ace, ACE):
        raise ValueError(f"the sampler is {type(ace).__name__}, and only ACE has a direction to estimate")
    require_self_conditioning(model)
    tokenizer = model.text_format.tokenizer
    pad = None if tokenizer is None else tokenizer.pad
    means, repetition = list[torch.Tensor](), list[float]()
    for first in tqdm(range(0, ace.num_samples, BATCH), desc="estimating ACE's direction", disable=None):
        seeds = sample_seeds(SEED, first, min(BATCH, ace.num_samples - first))
        ids, trace = model.sample(seeds, ace.num_steps, ace.sampler)
        means.append(torch.stack([belief.mean.double().mean(1) for belief in trace.beliefs]).mean(0))
        repetition += [sequence_repetition([token for token in row if token != pad]) for row in ids.tolist()]
    found = repetition_direction(torch.cat(means).cpu(), torch.tensor(repetition, dtype=torch.float64))
    ace.direction = found.direction
    rank_zero_info(
        f"ACE's direction is within {math.degrees(found.angle):.0f} degrees of that of infinitely many samples (95%); "
        f"seq-rep-4 of the thirds of {ace.num_samples} samples: {found.most:.1%} and {found.least:.1%}"
    )
    return found


@torch.no_grad()
def require_self_conditioning(model: Generator) -> None:
    """Raise an error for a network whose prediction does not depend on its self-condition, or that answers prompts."""
    net, length = model.sampling_net, model.codec.num_latents(model.text_format.seq_length)
    if model.text_format.max_source_length is not None:
        raise ValueError("ACE estimates its direction from free samples, and this run answers sources; leave it out")
    z = torch.randn(1, length, model.codec.dim, generator=torch.Generator().manual_seed(0)).to(model.device)
    t = z.new_full((1,), model.path.t_min)
    guidance = z.new_ones(1)
    free, fed = (net(z, t, Conditioning(self_cond=x, guidance=guidance)).mean for x in (torch.zeros_like(z), z))
    if torch.equal(free, fed):
        raise ValueError(
            f"ACE moves the self-condition, and {type(net).__name__} of this run does not depend on one; leave it out"
        )
