"""Batch, conditioning and posterior. t increases from noise to text, everywhere.

Letters in shapes: B rows, L tokens, S latents (S may differ from L), d latent width, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Ids: TypeAlias = Int[Tensor, "B L"]
Mask: TypeAlias = Bool[Tensor, "B L"]
LatentMask: TypeAlias = Bool[Tensor, "B S"]
PositionMask: TypeAlias = Bool[Tensor, "B S"]
CommittedIds: TypeAlias = Int[Tensor, "B S"]
AttentionMask: TypeAlias = Bool[Tensor, "B L L"]
RowMask: TypeAlias = Bool[Tensor, " B"]
Times: TypeAlias = Float[Tensor, "B ..."]  # one time per row [B], or one a position [B, S]
Latents: TypeAlias = Float[Tensor, "B S d"]
Logits: TypeAlias = Float[Tensor, "B L V"]
KeyValues: TypeAlias = tuple[Tensor, ...]  # keys and values of the positions so far [B, 2, heads, S, w], one a layer


class Batch(NamedTuple):
    """Token ids of a batch of rows.

    Args:
        ids: token ids [B, L].
        mask: True on text, False on padding [B, L].
        prompt_mask: True on a prompt, which comes first in its row [B, L]; None where there are no prompts.
        dropped: rows whose prompt is hidden from the rest, for classifier-free guidance [B]; None hides none.
    """

    ids: Ids
    mask: Mask
    prompt_mask: Mask | None = None
    dropped: RowMask | None = None

    def loss_mask(self, on_padding: bool = False) -> Mask:
        """True on tokens in the loss [B, L]: those after a prompt, with or without padding."""
        valid = self.mask | on_padding
        return valid if self.prompt_mask is None else valid & ~self.prompt_mask

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with a function applied to each of its tensors."""
        return Batch(*(None if part is None else fn(part) for part in self))  # type: ignore[arg-type]


class Conditioning(NamedTuple):
    """Inputs of a denoiser besides z and t; each part may be absent.

    Args:
        self_cond: mean of its own previous belief (self-conditioning) [B, S, d].
        guidance: self-conditioning guidance scale, one a row [B].
        end_time: end of the step, for flow maps [B].
        prompt: clean latents of a prompt [B, S, d].
        prompt_mask: True where the prompt stands [B, S].
        past: keys and values of the clean latents before z, for a net that is causal over blocks.
    """

    self_cond: Latents | None = None
    guidance: Times | None = None
    end_time: Times | None = None
    prompt: Latents | None = None
    prompt_mask: PositionMask | None = None
    past: KeyValues | None = None

    def rows(self, index: Tensor | slice) -> "Conditioning":
        """The conditioning of some rows, by their indices, a mask or a slice."""
        parts = (None if part is None else part[index] for part in self[:-1])
        past = None if self.past is None else tuple(layer[index] for layer in self.past)
        return Conditioning(*parts)._replace(past=past)  # type: ignore[arg-type]

    def restore_prompt(self, z: Latents) -> Latents:
        """z with the prompt's clean latents in their place."""
        if self.prompt_mask is None or self.prompt is None:
            return z
        return torch.where(self.prompt_mask[..., None], self.prompt, z)


class Posterior(NamedTuple):
    """A belief about the text behind z_t.

    Args:
        mean: E[x | z_t] [B, S, d].
        logits: logits of p(token | z_t) [B, L, V], where the denoiser gives them.
        committed: token that an escape has committed each position to, -1 where none [B, S].
        carry: what was computed beside the belief and is used again: hidden features from which logits follow
            (LangFlow, FLM), keys and values of a clean block (Cola-DLM), or the state of an early exit.
    """

    mean: Latents
    logits: Logits | None = None
    committed: CommittedIds | None = None
    carry: object = None


@runtime_checkable
class Denoise(Protocol):
    """(z, t) -> belief about the text: what a sampler needs of a model. `DenoiseFn` is the one of a generator.

    Args:
        z: state at time t [B, S, d].
        t: its time.
        self_cond: mean of the previous belief (self-conditioning); None at the first step.
        t_next: end of the step, for flow maps; None where there is no step.
        carry: `Posterior.carry` of the previous belief; an early exit resumes from it.
    """

    def __call__(
        self, z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior: ...


Evaluate: TypeAlias = Callable[[Latents, float, Latents | None, float | None], Posterior]  # (z, t, self_cond, t_next)
