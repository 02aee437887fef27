"""Grouped: group after group of positions, each given the tokens of the groups before it [ours]."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from textflow.codecs import Codec
from textflow.noise import Noise
from textflow.readouts import Readout
from textflow.samplers.base import Sampler, Trace
from textflow.samplers.denoise_fn import DenoiseFn, TokenContext
from textflow.samplers.order import Order, Sample, denoise_and_read
from textflow.types import Ids, Latents, PositionMask


@dataclass(frozen=True)
class Grouped(Order):
    """Group after group of positions. The tokens of a group are read out and stand clean, at the clean end of time,
    while the next group is denoised; positions of later groups are noise, at the noisy end.

    The steps of sampling are those of a group, so that K groups of one step take K evaluations of the network. The
    network has to take a time for each position (per_position_prob of its objective). A readout that draws its tokens
    (FromPosterior with a temperature) draws those of a group independently, given the groups before: with one step a
    group the law of the text is a product, whose mean -log p on real texts `GroupCost` computes and `textflow
    order` minimises. A prompt is clean from the start; groups that lie within it take their steps too, so that a text
    does not depend on the prompts beside it.

    Args:
        groups: group of each position, 0 first; a text has as many positions. Default: from left to right, each
            position per group of its own.
    """

    groups: Sequence[int] = ()
    reads_prompts = True
    feeds_tokens = True

    def __post_init__(self) -> None:
        if self.groups and set(self.groups) != set(range(max(self.groups) + 1)):
            raise ValueError(
                f"Grouped got the groups {sorted(set(self.groups))}; needs 0, 1, 2, ... up to a last one, each with a "
                "position: textflow order finds them"
            )

    def sample(
        self, denoise: DenoiseFn, readout: Readout, sampler: Sampler, times: list[float], z: Latents, noise: Noise
    ) -> Sample:
        require_latent_per_token(denoise.codec, z.shape[1])
        groups, prompt = self.group_of(z), denoise.prompt
        known = torch.zeros_like(z[..., 0], dtype=torch.bool) if prompt is None else prompt.mask
        x = torch.zeros_like(z) if prompt is None else torch.where(known[..., None], prompt.latents, 0.0)
        ids = torch.zeros_like(known, dtype=torch.long)
        if prompt is not None and prompt.ids is not None:
            ids = torch.where(known, prompt.ids, ids)
        traces = list[Trace]()
        for group in range(int(groups.max()) + 1):
            in_group = (groups == group) & ~known
            part = given_tokens(denoise, x, known, ~known & ~in_group, z, times[0])
            chosen, trace = denoise_and_read(part, readout, sampler, times, z, noise, x, known)
            ids, known = torch.where(in_group, chosen, ids), known | in_group
            x = torch.where(known[..., None], denoise.codec.encode(ids, known).to(x), 0.0)
            traces.append(with_choice(trace, ids, in_group))
        return Sample(ids, join_traces(traces, x))

    def group_of(self, z: Latents) -> Int[Tensor, " S"]:
        """Group of each position."""
        if not self.groups:
            return torch.arange(z.shape[1], device=z.device)
        if len(self.groups) != z.shape[1]:
            raise ValueError(
                f"the order Grouped has groups for {len(self.groups)} positions, but a text has {z.shape[1]}; find "
                "others with textflow order, or leave --length out"
            )
        return torch.tensor(self.groups, device=z.device)


def require_latent_per_token(codec: Codec, num_latents: int) -> None:
    """Raise a ValueError for a codec whose latents are not one a token."""
    if codec.num_tokens(num_latents) != num_latents:
        raise ValueError(
            f"the order Grouped chooses tokens position by position and needs a latent per token, but {num_latents} "
            f"latents of {type(codec).__name__} are {codec.num_tokens(num_latents)} tokens; use the order AllAtOnce"
        )


def given_tokens(
    denoise: DenoiseFn, x: Latents, known: PositionMask, later: PositionMask, start: Latents, t_start: float
) -> DenoiseFn:
    """The denoiser of the positions that are neither known nor later; the arguments are those of `TokenContext`."""
    return replace(denoise, prompt=None, start=None, context=TokenContext(x, known, later, start, t_start))


def with_choice(trace: Trace, ids: Ids, in_group: PositionMask) -> Trace:
    """The trace of a group, whose last belief has committed to its tokens."""
    last = trace.beliefs[-1]._replace(committed=torch.where(in_group, ids, -1))
    return trace._replace(beliefs=[*trace.beliefs[:-1], last])


def join_traces(traces: Sequence[Trace], x: Latents) -> Trace:
    """The traces of all groups as one, which ends with the latents x."""
    states = [z for trace in traces for z in trace.states]
    return Trace(
        x, [t for trace in traces for t in trace.times], states, [b for trace in traces for b in trace.beliefs]
    )
