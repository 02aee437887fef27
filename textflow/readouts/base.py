"""Readout: the last belief -> tokens, the final, categorical act."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

from torch import Tensor, nn

from textflow.codecs.base import Codec
from textflow.nets.base import Denoiser
from textflow.noise import Noise
from textflow.paths.base import ProbPath
from textflow.types import Conditioning, Ids, Latents, Logits, Mask, Posterior


class View(NamedTuple):
    """Inputs of a readout.

    Args:
        z: state that the belief is about [B, S, d].
        t: its time.
        belief: posterior at z_t; after the last step its mean holds the final latents.
        path: probability path that the latents follow.
        codec: may decode latents.
        net: may decode latents.
        cond: guidance and prompt.
        before: tokens read out before these, block after block [B, P], -1 where none; None where all are read at once.
    """

    z: Latents
    t: float
    belief: Posterior
    path: ProbPath
    codec: Codec
    net: Denoiser
    cond: Conditioning = Conditioning()
    before: Ids | None = None


class Readout(nn.Module, ABC):
    """A rule that turns a belief into tokens. One with weights of its own sets `trainable`: its `nll` is trained with
    the denoiser. One that can feed tokens back in two ways sets `feedback`, what the next token sees of one."""

    trainable: bool = False
    feedback: Literal["tokens", "expectation"] | None = None

    def build(self, codec: Codec) -> None:  # noqa: B027  most have no weights
        """Make the weights that depend on the codec's sizes; a generator calls it once."""

    @abstractmethod
    def logits(self, view: View) -> Logits:
        """Logits over tokens [B, L, V]; readouts that are not position-wise raise an error."""

    def latent_logits(self, view: View) -> Logits:
        """Logits of final latents that no network pass belongs to, the mean of the view's belief [B, L, V]."""
        return self.logits(view)

    def decode(self, view: View, noise: Noise | None = None) -> Ids:
        """Token ids [B, L]: the likeliest ones, unless the readout draws them, by random streams, one a sample."""
        return self.logits(view).argmax(-1)

    def num_calls(self, length: int) -> int:
        """Passes of the readout's own network for a text of so many tokens, which are counted apart from the
        denoiser's; 0 without one."""
        return 0

    def fed_ids(self, ids: Ids) -> list[Ids]:
        """Tokens in the input of each of these passes, -1 where none [B, L], for a text of ids [B, L]; empty where no
        token is fed back."""
        return []

    def nll(self, view: View, ids: Ids, mask: Mask) -> Tensor:
        """Mean -log p(ids) over the mask, for readouts that are trained."""
        raise NotImplementedError(f"{type(self).__name__} has no weights to train")
