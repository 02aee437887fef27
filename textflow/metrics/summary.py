"""All numbers of a set of texts, each with its interval."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from textflow.metrics.diversity import HUMAN_REPETITION, Samples, distinct, ngrams, sequence_repetition
from textflow.metrics.entropy import unigram_entropy
from textflow.metrics.intervals import Counts, Interval, Measure, bootstrap, jackknife, ratio
from textflow.metrics.scored import Scored

Again: TypeAlias = Callable[[Measure, int], Interval]  # a measure of n samples -> its value and interval


def numbers_of(
    scored: Scored,
    ids: Samples | None = None,
    over: Literal["scorer", "generator"] = "scorer",
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """All that is said of texts, each over the samples; what they cannot give is absent.

    perplexity and nll (nats a token) by the scorer's counting; entropy_scorer over its ids, entropy_generator over the
    generator's, entropy the one of the protocol; excess = nll - entropy_scorer, on the same ids (2604.02718);
    seq_rep_4, clean, distinct_1 .. 3 and diversity over the scorer's ids, which hold no padding.

    Args:
        scored: what the scorer found.
        ids: the generator's own tokens of each sample, all positions (MDLM, LangFlow).
        over: the ids that `entropy` is taken of.
        level: confidence of the intervals, in (0, 1).
        seed: of the resamples.
    """
    again = partial(bootstrap, level=level, seed=seed)
    found = likelihoods(scored, again) | repetitions(scored.ids, again, level)
    for name, rows in (("scorer", scored.ids), ("generator", ids)):
        if rows:
            found[f"entropy_{name}"] = again(mean(column(unigram_entropy, rows)), len(rows))
    if f"entropy_{over}" in found:
        found["entropy"] = found[f"entropy_{over}"]
    return found


def likelihoods(scored: Scored, again: Again) -> dict[str, Interval]:
    """perplexity, nll and excess; none where nothing was scored."""
    if scored.perplexity is None:
        return {}
    n, nll, counted = len(scored.tokens), ratio(scored.nll, scored.tokens), (scored.tokens > 0).double()
    entropy = ratio(column(unigram_entropy, scored.ids) * counted, counted)
    return {
        "perplexity": again(perplexity(scored), n),
        "nll": again(nll, n),
        "excess": again(lambda counts: nll(counts) - entropy(counts), n),
    }


def repetitions(samples: Samples, again: Again, level: float) -> dict[str, Interval]:
    """seq_rep_4, clean, distinct_1 .. 3 and diversity; none without samples."""
    if not samples:
        return {}
    repetition, n = column(sequence_repetition, samples), len(samples)
    found = {"seq_rep_4": again(mean(repetition), n), "clean": again(mean(repetition <= HUMAN_REPETITION), n)}
    found |= {f"distinct_{k}": different(samples, k, level) for k in (1, 2, 3)}
    return found | {"diversity": again(diversity(samples), n)}


def mean(values: Tensor) -> Measure:
    """The mean over a resample."""
    return ratio(values.double(), torch.ones(len(values), dtype=torch.float64))


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
