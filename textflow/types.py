"""The words of textflow: what a batch, a belief and a denoiser are. t = 0 is noise and t = 1 is text, everywhere.

Letters in shapes: B rows, L tokens, S latents (S may differ from L), d latent width, V vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Ids: TypeAlias = Int[Tensor, "B L"]
Mask: TypeAlias = Bool[Tensor, "B L"]
Choice: TypeAlias = Bool[Tensor, "B S"]
Chosen: TypeAlias = Int[Tensor, "B S"]
Sight: TypeAlias = Bool[Tensor, "B L L"]
Rows: TypeAlias = Bool[Tensor, " B"]
Times: TypeAlias = Float[Tensor, " B"]
Latents: TypeAlias = Float[Tensor, "B S d"]
Logits: TypeAlias = Float[Tensor, "B L V"]


class Batch(NamedTuple):
    """Token ids, which of them are text (True) rather than padding, and which are a prompt (True) that is given.

    The prompt comes first in a row; without one `fixed` is absent.
    """

    ids: Ids
    mask: Mask
    fixed: Mask | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same change of every part that is there."""
        return Batch(change(self.ids), change(self.mask), None if self.fixed is None else change(self.fixed))


class Given(NamedTuple):
    """What a denoiser is told besides z and t; each may be absent.

    Args:
        prev: its own last belief (self-conditioning).
        w: guidance scale, one a row.
        until: end time of the step, for flow maps.
        clean: latents of the prompt.
        fixed: True where the prompt stands.
    """

    prev: Latents | None = None
    w: Times | None = None
    until: Times | None = None
    clean: Latents | None = None
    fixed: Choice | None = None


class Posterior(NamedTuple):
    """A belief about the text behind z_t.

    Args:
        mean: E[x | z_t].
        logits: of p(token | z_t), where the denoiser has them.
        chosen: the token that each position was given categorically, -1 where none.
    """

    mean: Latents
    logits: Logits | None = None
    chosen: Chosen | None = None


@runtime_checkable
class Denoise(Protocol):
    """All that a sampler sees of a model: weights, guidance and escape are closed over."""

    def __call__(self, z: Latents, t: float, prev: Latents | None = None) -> Posterior: ...


@runtime_checkable
class Ending(Protocol):
    """A Denoise that hears where its step ends, for flow maps; samplers need not know of it."""

    until: float | None


def pick(given: Given, rows: Rows | Int[Tensor, " n"]) -> Given:
    """What is given to some of the rows."""
    return Given(*(None if part is None else part[rows] for part in given))


def keep(z: Latents, given: Given) -> Latents:
    """z with the prompt in its place."""
    if given.fixed is None or given.clean is None:
        return z
    return torch.where(given.fixed[..., None], given.clean, z)
