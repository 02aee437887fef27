"""Summary statistics of a set of texts, each with its confidence interval."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from textflow.metrics.diversity import HUMAN_REPETITION, Samples, ngrams, sequence_repetition
from textflow.metrics.entropy import unigram_entropy
from textflow.metrics.intervals import Interval, Statistic, bootstrap, jackknife, ratio
from textflow.metrics.scorer_output import ScorerOutput

IntervalFn: TypeAlias = Callable[[Statistic, int], Interval]  # a measure of n samples -> its value and interval


def summarize(
    scorer_output: ScorerOutput,
    ids: Samples | None = None,
    entropy_ids: Literal["scorer", "generator"] = "scorer",
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """All metrics of a set of samples, with intervals; metrics that cannot be computed are absent.

    perplexity and nll (nats per token) by the scorer's token weighting; bits_per_character over the tokens that count;
    entropy_scorer over its ids, entropy_generator over the generator's, entropy the one of the protocol;
    nll_minus_entropy = nll - entropy_scorer, on the same ids (2604.02718); seq_rep_4, human_repetition_share,
    distinct_1 .. 3 and diversity over the scorer's ids, which hold no padding.

    Args:
        scorer_output: likelihoods and tokens from the scorer.
        ids: the generator's own tokens of each sample, all positions (MDLM, LangFlow).
        entropy_ids: ids used for `entropy`, scorer or generator.
        level: confidence of the intervals, in (0, 1).
        seed: random seed of the resamples.
    """
    interval_of = partial(bootstrap, level=level, seed=seed)
    intervals = likelihood_intervals(scorer_output, interval_of)
    intervals |= repetition_intervals(scorer_output.ids, interval_of, level)
    for name, rows in (("scorer", scorer_output.ids), ("generator", ids)):
        if rows:
            intervals[f"entropy_{name}"] = interval_of(mean_statistic(per_sample(unigram_entropy, rows)), len(rows))
    if f"entropy_{entropy_ids}" in intervals:
        intervals["entropy"] = intervals[f"entropy_{entropy_ids}"]
    return intervals


def likelihood_intervals(scorer_output: ScorerOutput, interval_of: IntervalFn) -> dict[str, Interval]:
    """perplexity, nll, nll_minus_entropy and bits_per_character; none where nothing was scored."""
    if scorer_output.perplexity is None:
        return {}
    n, nll = len(scorer_output.tokens), ratio(scorer_output.nll, scorer_output.tokens)
    counted = (scorer_output.tokens > 0).double()
    entropy = ratio(per_sample(unigram_entropy, scorer_output.ids) * counted, counted)
    return {
        "perplexity": interval_of(perplexity_statistic(scorer_output), n),
        "nll": interval_of(nll, n),
        "nll_minus_entropy": interval_of(lambda counts: nll(counts) - entropy(counts), n),
    } | bits_interval(scorer_output, interval_of)


def bits_interval(scorer_output: ScorerOutput, interval_of: IntervalFn) -> dict[str, Interval]:
    """bits_per_character: NLL of the scored tokens, each once, over ln 2 times the characters that they spell, which is
    comparable across tokenizers; none without characters."""
    nats, characters = scorer_output.text_nll, scorer_output.characters
    if nats is None or characters is None or not characters.sum():
        return {}
    return {"bits_per_character": interval_of(ratio(nats / math.log(2), characters), len(nats))}


def repetition_intervals(samples: Samples, interval_of: IntervalFn, level: float) -> dict[str, Interval]:
    """seq_rep_4, human_repetition_share, distinct_1 .. 3 and diversity; none without samples."""
    if not samples:
        return {}
    repetition, n = per_sample(sequence_repetition, samples), len(samples)
    intervals = {
        "seq_rep_4": interval_of(mean_statistic(repetition), n),
        "human_repetition_share": interval_of(mean_statistic(repetition <= HUMAN_REPETITION), n),
    }
    intervals |= {f"distinct_{k}": distinct_interval(samples, k, level) for k in (1, 2, 3)}
    return intervals | {"diversity": interval_of(diversity_statistic(samples), n)}


def mean_statistic(values: Tensor) -> Statistic:
    """The mean over a resample."""
    return ratio(values.double(), torch.ones(len(values), dtype=torch.float64))


def perplexity_statistic(scorer_output: ScorerOutput) -> Statistic:
    """The perplexity of a resample, by the scorer's token weighting."""
    if scorer_output.average_over == "corpus":
        inner = ratio(scorer_output.nll, scorer_output.tokens)
        return lambda counts: inner(counts).exp()
    counted = (scorer_output.tokens > 0).double()
    each = (scorer_output.nll / scorer_output.tokens.clamp_min(1)).exp() * counted
    return ratio(each, counted)


def diversity_statistic(samples: Samples) -> Statistic:
    """prod_{n=2..4} (1 - rep_n) of a resample (SimCTG)."""
    repetitions = []
    for n in (2, 3, 4):
        grams = [ngrams(ids, n) for ids in samples]
        total = torch.tensor([len(each) for each in grams], dtype=torch.float64)
        distinct = torch.tensor([len(set(each)) for each in grams], dtype=torch.float64)
        repetitions.append(ratio(total - distinct, total))
    return lambda counts: torch.stack([1 - repetition(counts) for repetition in repetitions]).prod(0)


def distinct_interval(samples: Samples, n: int, level: float) -> Interval:
    """distinct-n with a jackknife interval; leaving out sample i removes the n-grams that occur only in it."""
    grams = [ngrams(ids, n) for ids in samples]
    holders = Counter(gram for each in grams for gram in set(each))  # in how many samples
    own = torch.tensor([sum(holders[gram] == 1 for gram in set(each)) for each in grams], dtype=torch.float64)
    sizes = torch.tensor([len(each) for each in grams], dtype=torch.float64)
    without = (len(holders) - own) / (sizes.sum() - sizes).clamp_min(1)
    return jackknife(len(holders) / max(sum(map(len, grams)), 1), without, level)


def per_sample(metric: Callable[[Sequence[int]], float], samples: Samples) -> Tensor:
    """A measure of each sample, float64 [n]."""
    return torch.tensor([metric(ids) for ids in samples], dtype=torch.float64)
