"""Three worlds: `chain` (few successors a token), `text` (Zipf's law, clustered codes), `topic` (long range)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.escapes import Escape, Soft
from textflow.models.generator import Generator
from textflow.noise import Noise, sample_seeds
from textflow.objectives import ELFObjective
from textflow.oracle.base import Atoms, Exact, Timed
from textflow.oracle.chain import Chain
from textflow.paths import Linear
from textflow.readouts import FromBelief, FromCodec, Readout
from textflow.samplers import Euler, Sampler
from textflow.schedules import Clock
from textflow.types import Ids

SMOOTH = 0.01  # share of the uniform law in every transition: no text is impossible


@dataclass(frozen=True, eq=False)
class World:
    """A law of texts, their latents, and the denoiser that knows both.

    Args:
        name: of the world.
        prior: law of the texts.
        codec: texts <-> latents.
        denoiser: of the latents: exact, or spoilt on purpose.
        path: how latents become noise; the floor is so low that steps are exact.
        length: tokens of a text.
    """

    name: str
    prior: Chain
    codec: Atoms
    denoiser: Timed
    path: Linear
    length: int = 32

    @property
    def exact(self) -> Exact:
        """The denoiser that knows, however the world's own was spoilt."""
        return Exact(self.prior, self.codec, self.path)

    def draw(self, noise: Noise) -> Ids:
        """True texts, one a stream."""
        nothing = torch.zeros(len(noise.streams), self.length, self.prior.vocab, dtype=torch.float64)
        return self.prior.draw(nothing, noise)

    def truths(self, n: int, count: int = 3, seed: int = 0) -> list[Ids]:
        """Samples of true texts: what a sample of n is measured against.

        Args:
            n: texts a sample.
            count: number of samples.
            seed: of the samples, >= 0.
        """
        return [self.draw(Noise(sample_seeds(seed, i * n, n))) for i in range(count)]

    def generator(
        self,
        readout: Readout = FromCodec(),
        escape: Escape = Soft(),
        sampler: Sampler = Euler(),
        grid: Clock | None = None,
    ) -> Generator:
        """The denoiser as a Generator: whatever runs on a trained one runs on it.

        Args:
            readout: the last belief -> logits; FromBelief writes the likeliest tokens.
            escape: what is chosen before the readout.
            sampler: a step from noise towards text.
            grid: times of sampling; default: ELF's clock.
        """
        made = Generator(
            self.prior.vocab,
            codec=lambda vocab: self.codec,
            net=lambda dim, vocab: self.denoiser,
            objective=ELFObjective(),
            path=self.path,
            readout=readout,
            tokens=FromBelief(),
            escape=escape,
            sampler=sampler,
            grid=grid,
        )
        made.length = self.length
        return made.eval()


def chain(seed: int = 0) -> World:
    """32 tokens with 4 successors each, 16-dimensional codes: a Markov chain.

    Args:
        seed: of the world, >= 0.
    """
    noise = Noise([seed])
    law, legal = successors(32, 4, noise)
    return world("chain", Chain(stationary(law), law, legal=legal), Atoms(sphere(normal(noise, 32, 16))))


def text(seed: int = 0) -> World:
    """64 tokens by Zipf's law with 1 to 16 successors each, 40-dimensional clouds in clusters of 4: a Markov chain.

    Args:
        seed: of the world, >= 0.
    """
    noise, vocab = Noise([seed]), 64
    fame = -0.8 * torch.arange(1, vocab + 1, dtype=torch.float64).log()
    gumbel = -(-noise.uniform(vocab, vocab)[0].log()).log()
    rank = (fame + gumbel).argsort(-1, descending=True).argsort(-1)  # the famous are chosen more often, each once
    legal = rank < 16 ** noise.uniform(vocab, 1)[0]  # 1 to 16 successors, few more often than many
    law = smooth(legal / (rank + 1).double())
    spread = normal(noise, vocab // 4, 1, 40) + 0.6 * normal(noise, vocab // 4, 4, 40)
    return world("text", Chain(stationary(law), law, legal=legal), Atoms(sphere(spread.flatten(0, 1)), tau=0.3))


def topic(seed: int = 0) -> World:
    """24 tokens under 4 topics with 4 successors each, 16-dimensional codes: every text keeps to its topic.

    Args:
        seed: of the world, >= 0.
    """
    noise, vocab, topics = Noise([seed]), 24, 4
    laws, legals = zip(*(successors(vocab, 4, noise) for _ in range(topics)), strict=True)
    prior = Chain(
        torch.cat([stationary(law) for law in laws]) / topics,
        blocks(*laws),
        emission=torch.arange(vocab).repeat(topics),
        topic=torch.arange(topics).repeat_interleave(vocab),
        legal=blocks(*legals).bool(),
    )
    return world("topic", prior, Atoms(sphere(normal(noise, vocab, 16))))


WORLDS: dict[str, Callable[[int], World]] = {"chain": chain, "text": text, "topic": topic}


def world(name: str, prior: Chain, codec: Atoms) -> World:
    """A world with its exact denoiser."""
    path = Linear(scale=2.0, floor=1e-9)
    return World(name, prior, codec, Exact(prior, codec, path), path)


def successors(vocab: int, count: int, noise: Noise) -> tuple[Float[Tensor, "V V"], Bool[Tensor, "V V"]]:
    """Transitions along `count` random permutations with weights Gamma(1) + .05, smoothed, and which of them are meant.

    Args:
        vocab: number of tokens.
        count: successors of a token (fewer where permutations agree).
        noise: one stream.
    """
    after = noise.uniform(count, vocab)[0].argsort(-1).T  # [V, count]
    weight = 0.05 - noise.uniform(vocab, count)[0].log()
    law = torch.zeros(vocab, vocab, dtype=torch.float64).scatter_add(1, after, weight)
    return smooth(law), law > 0


def blocks(*parts: Tensor) -> Tensor:
    """One matrix with the parts on its diagonal."""
    return torch.block_diag(*parts)  # type: ignore[no-untyped-call]


def smooth(law: Float[Tensor, "V V"]) -> Float[Tensor, "V V"]:
    """Rows that add up to 1, with a share of the uniform law."""
    return (1 - SMOOTH) * law / law.sum(-1, keepdim=True) + SMOOTH / law.shape[1]


def stationary(law: Float[Tensor, "V V"]) -> Float[Tensor, " V"]:
    """pi with pi = pi P."""
    ones = torch.ones_like(law)
    return torch.linalg.solve(torch.eye(len(law)).to(law) - law.T + ones, ones[0])


def normal(noise: Noise, *shape: int) -> Tensor:
    """Standard normal of one stream."""
    return noise.normal(*shape)[0]


def sphere(codes: Float[Tensor, "V d"]) -> Float[Tensor, "V d"]:
    """Codes of length sqrt(d): latents of unit variance."""
    return F.normalize(codes, dim=-1) * codes.shape[1] ** 0.5
