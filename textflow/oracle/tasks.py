"""Oracle tasks: `chain` (few successors per token), `text` (Zipf's law, clustered codes), `topic` (long range)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from textflow.escapes import Escape, NoEscape
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.noise import Noise, sample_seeds
from textflow.objectives import ELFObjective
from textflow.oracle.base import ExactPosterior, GaussianAtoms, PerPositionDenoiser
from textflow.oracle.chain import Chain
from textflow.paths import LinearPath
from textflow.readouts import FromCodec, FromPosterior, Readout
from textflow.samplers import Euler, Sampler
from textflow.schedules import TimeSchedule
from textflow.types import Ids

SMOOTHING = 0.01  # share of the uniform law in every transition, so that no text is impossible


@dataclass(frozen=True, eq=False)
class OracleTask:
    """Oracle task: a law of texts, their latents, and a denoiser in closed form.

    Args:
        name: name of the task's kind.
        prior: law of the texts.
        codec: latents of the tokens.
        denoiser: denoiser in closed form, exact or perturbed.
        path: probability path; min_one_minus_t is so small that steps are exact.
        length: tokens per text.
    """

    name: str
    prior: Chain
    codec: GaussianAtoms
    denoiser: PerPositionDenoiser
    path: LinearPath
    length: int = 32

    @property
    def exact_posterior(self) -> ExactPosterior:
        """Exact posterior, also where the task's denoiser is perturbed."""
        return ExactPosterior(self.prior, self.codec, self.path)

    def sample(self, noise: Noise) -> Ids:
        """Sample true texts, one per stream."""
        loglik = torch.zeros(len(noise.streams), self.length, self.prior.vocab_size, dtype=torch.float64)
        return self.prior.sample_posterior(loglik, noise)

    def reference_samples(self, num_texts: int, num_samples: int = 3, seed: int = 0) -> list[Ids]:
        """Samples of true texts, to compare generated samples with."""
        return [self.sample(Noise(sample_seeds(seed, i * num_texts, num_texts))) for i in range(num_samples)]

    def make_generator(
        self,
        readout: Readout = FromCodec(),
        escape: Escape = NoEscape(),
        sampler: Sampler = Euler(),
        sampling_schedule: TimeSchedule | None = None,
    ) -> Generator:
        """Wrap the denoiser as a Generator, with the interface of a trained one.

        Args:
            readout: last belief -> logits; FromPosterior gives the likeliest tokens.
            escape: escape of the sampling steps.
            sampler: sampler of the steps.
            sampling_schedule: sampling time schedule; default: ELF's.
        """
        generator = Generator(
            self.prior.vocab_size,
            codec=lambda vocab: self.codec,
            net=lambda codec: self.denoiser,
            objective=ELFObjective(),
            path=self.path,
            readout=readout,
            token_readout=FromPosterior(),
            escape=escape,
            sampler=sampler,
            sampling_schedule=sampling_schedule,
        )
        generator.text_format = TextFormat(seq_length=self.length)
        return generator.eval()


def chain_task(seed: int = 0) -> OracleTask:
    """32 tokens with 4 successors each, 16-dimensional codes: a Markov chain."""
    noise = Noise([seed])
    law, legal = random_transitions(32, 4, noise)
    return make_task(
        "chain",
        Chain(stationary_distribution(law), law, legal=legal),
        GaussianAtoms(normalise_codes(standard_normal(noise, 32, 16))),
    )


def text_task(seed: int = 0) -> OracleTask:
    """64 tokens by Zipf's law with 1 to 16 successors each, 40-dimensional clouds in clusters of 4: a Markov chain."""
    noise, vocab = Noise([seed]), 64
    log_frequency = -0.8 * torch.arange(1, vocab + 1, dtype=torch.float64).log()
    gumbel = -(-noise.uniform(vocab, vocab)[0].log()).log()
    rank = (log_frequency + gumbel).argsort(-1, descending=True).argsort(-1)  # Gumbel top-k: frequent tokens first
    legal = rank < 16 ** noise.uniform(vocab, 1)[0]  # 1 to 16 successors, few more often than many
    law = smooth_rows(legal / (rank + 1).double())
    spread = standard_normal(noise, vocab // 4, 1, 40) + 0.6 * standard_normal(noise, vocab // 4, 4, 40)
    return make_task(
        "text",
        Chain(stationary_distribution(law), law, legal=legal),
        GaussianAtoms(normalise_codes(spread.flatten(0, 1)), tau=0.3),
    )


def topic_task(seed: int = 0) -> OracleTask:
    """24 tokens under 4 topics with 4 successors each, 16-dimensional codes: each text has one topic."""
    noise, vocab, topics = Noise([seed]), 24, 4
    laws, legals = zip(*(random_transitions(vocab, 4, noise) for _ in range(topics)), strict=True)
    prior = Chain(
        torch.cat([stationary_distribution(law) for law in laws]) / topics,
        block_diagonal(*laws),
        emission=torch.arange(vocab).repeat(topics),
        topic=torch.arange(topics).repeat_interleave(vocab),
        legal=block_diagonal(*legals).bool(),
    )
    return make_task("topic", prior, GaussianAtoms(normalise_codes(standard_normal(noise, vocab, 16))))


ORACLE_TASKS: dict[str, Callable[[int], OracleTask]] = {"chain": chain_task, "text": text_task, "topic": topic_task}


def make_task(name: str, prior: Chain, codec: GaussianAtoms) -> OracleTask:
    """Build a task with its exact denoiser."""
    path = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)
    return OracleTask(name, prior, codec, ExactPosterior(prior, codec, path), path)


def random_transitions(
    vocab_size: int, num_successors: int, noise: Noise
) -> tuple[Float[Tensor, "V V"], Bool[Tensor, "V V"]]:
    """Transitions along random permutations with weights Gamma(1) + .05, smoothed, and the legal ones; a token has
    fewer successors where permutations agree."""
    after = noise.uniform(num_successors, vocab_size)[0].argsort(-1).T  # [V, num_successors]
    weight = 0.05 - noise.uniform(vocab_size, num_successors)[0].log()
    law = torch.zeros(vocab_size, vocab_size, dtype=torch.float64).scatter_add(1, after, weight)
    return smooth_rows(law), law > 0


def block_diagonal(*matrices: Tensor) -> Tensor:
    """Block-diagonal matrix of the arguments."""
    return torch.block_diag(*matrices)  # type: ignore[no-untyped-call]


def smooth_rows(weights: Float[Tensor, "V V"]) -> Float[Tensor, "V V"]:
    """Normalise rows and mix in a share of the uniform law."""
    return (1 - SMOOTHING) * weights / weights.sum(-1, keepdim=True) + SMOOTHING / weights.shape[1]


def stationary_distribution(transition: Float[Tensor, "V V"]) -> Float[Tensor, " V"]:
    """Stationary law pi = pi P."""
    ones = torch.ones_like(transition)
    return torch.linalg.solve(torch.eye(len(transition)).to(transition) - transition.T + ones, ones[0])


def standard_normal(noise: Noise, *shape: int) -> Tensor:
    """Standard normal draws from one stream."""
    return noise.normal(*shape)[0]


def normalise_codes(codes: Float[Tensor, "V d"]) -> Float[Tensor, "V d"]:
    """Scale codes to length sqrt(d), so that latents have unit variance."""
    return F.normalize(codes, dim=-1) * codes.shape[1] ** 0.5
