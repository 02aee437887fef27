"""All numbers of a set of texts, each with its interval."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from textflow.metrics.diversity import HUMAN_REPETITION, Samples, distinct, ngrams, sequence_repetition
from textflow.metrics.entropy import unigram_entropy
from textflow.metrics.intervals import Counts, Interval, bootstrap, jackknife, ratio
from textflow.metrics.scorer import Scored


def numbers_of(scored: Scored, ids: Samples | None = None, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """perplexity, nll, entropy, seq_rep_4, clean, distinct_1 .. 3 and diversity, each over the samples.

    Args:
        scored: what the scorer found.
        ids: tokens that entropy and n-grams are taken of; default: the scorer's (the ELF protocol), the generator's
            where a protocol says so (MDLM, LangFlow).
        level: confidence of the intervals, in (0, 1).
        seed: of the resamples.
    """
    samples = scored.ids if ids is None else ids
    again = partial(bootstrap, level=level, seed=seed)
    found: dict[str, Interval] = {}
    if scored.perplexity is not None:
        found["perplexity"] = again(perplexity(scored), len(scored.tokens))
        found["nll"] = again(ratio(scored.nll, scored.tokens), len(scored.tokens))
    if not samples:
        return found
    repetition = column(sequence_repetition, samples)
    means = {"entropy": column(unigram_entropy, samples), "seq_rep_4": repetition}
    means["clean"] = (repetition <= HUMAN_REPETITION).double()
    for name, values in means.items():
        found[name] = again(ratio(values, torch.ones_like(values)), len(samples))
    for n in (1, 2, 3):
        found[f"distinct_{n}"] = different(samples, n, level)
    found["diversity"] = again(diversity(samples), len(samples))
    return found


def perplexity(scored: Scored) -> Callable[[Tensor], Tensor]:
    """The perplexity of a resample, by the counting of the scorer."""
    if scored.mean == "corpus":
        inner = ratio(scored.nll, scored.tokens)
        return lambda counts: inner(counts).exp()
    counted = (scored.tokens > 0).double()
    each = (scored.nll / scored.tokens.clamp_min(1)).exp() * counted
    return ratio(each, counted)


def diversity(samples: Samples) -> Callable[[Tensor], Tensor]:
    """prod_{n=2..4} (1 - rep_n) of a resample (SimCTG)."""
    parts = []
    for n in (2, 3, 4):
        grams = [ngrams(ids, n) for ids in samples]
        total = torch.tensor([len(each) for each in grams], dtype=torch.float64)
        repeats = total - torch.tensor([len(set(each)) for each in grams], dtype=torch.float64)
        parts.append(ratio(repeats, total))

    def measure(counts: Counts) -> Tensor:
        return torch.stack([1 - part(counts) for part in parts]).prod(0)

    return measure


def different(samples: Samples, n: int, level: float) -> Interval:
    """distinct-n; without sample i, the n-grams that stand in no other are gone."""
    grams = [ngrams(ids, n) for ids in samples]
    holders = Counter(gram for each in grams for gram in set(each))  # in how many samples
    own = torch.tensor([sum(holders[gram] == 1 for gram in set(each)) for each in grams], dtype=torch.float64)
    sizes = torch.tensor([len(each) for each in grams], dtype=torch.float64)
    without = (len(holders) - own) / (sizes.sum() - sizes).clamp_min(1)
    return jackknife(distinct(samples, n), without, level)


def column(measure: Callable[[Sequence[int]], float], samples: Samples) -> Tensor:
    """A measure of each sample, float64 [n]."""
    return torch.tensor([measure(ids) for ids in samples], dtype=torch.float64)
