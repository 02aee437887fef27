"""Random texts: independent tokens, and samples of a small Markov chain."""

import torch

from textflow.noise import Noise
from textflow.oracle import Chain, GaussianAtoms
from textflow.oracle.tasks import normalise_codes, random_transitions, standard_normal, stationary_distribution


def random_ids(rows: int, length: int, vocab: int) -> torch.Tensor:
    """Independent, uniform tokens [rows, length]."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(0))


def chain_texts(prior: Chain, rows: int, length: int, seed: int) -> torch.Tensor:
    """Texts of a chain [rows, length]."""
    nothing = torch.zeros(rows, length, prior.vocab_size, dtype=torch.float64)
    return prior.sample_posterior(nothing, Noise(range(seed, seed + rows)))


def small_chain() -> tuple[Chain, GaussianAtoms]:
    """Four tokens with two successors each, and their codes."""
    noise = Noise([5])
    law, _ = random_transitions(4, 2, noise)
    return Chain(stationary_distribution(law), law), GaussianAtoms(normalise_codes(standard_normal(noise, 4, 4)))
