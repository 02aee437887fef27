"""Repetition inside a sample and variety over samples, from n-grams of token ids."""

from collections.abc import Sequence

Samples = Sequence[Sequence[int]]
HUMAN_REPETITION = 0.0192  # seq-rep-4 of human text: a sample at or below it counts in human_repetition_share


def ngrams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All n-grams of one sample in order; empty if it is shorter than n."""
    return list(zip(*(ids[i:] for i in range(n)), strict=False))


def sequence_repetition(ids: Sequence[int], n: int = 4) -> float:
    """seq-rep-n = 1 - distinct n-grams / n-grams of one sample; 0 if it is shorter than n.

    Args:
        ids: tokens of one sample, without padding.
        n: length of the n-grams.
    """
    grams = ngrams(ids, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def mean_repetition(samples: Samples, n: int = 4) -> float:
    """Mean seq-rep-n over samples."""
    return sum(sequence_repetition(ids, n) for ids in samples) / max(len(samples), 1)


def share_below_human_repetition(samples: Samples, threshold: float = HUMAN_REPETITION) -> float:
    """Share of samples whose seq-rep-4 is at most that of human text.

    Args:
        samples: token ids, one sequence a sample.
        threshold: share of repeated 4-grams, 0 to 1.
    """
    return sum(sequence_repetition(ids) <= threshold for ids in samples) / max(len(samples), 1)


def distinct_n(samples: Samples, n: int) -> float:
    """distinct-n = different n-grams / n-grams over all samples together; 0 without any."""
    grams = [gram for ids in samples for gram in ngrams(ids, n)]
    return len(set(grams)) / max(len(grams), 1)


def pooled_repetition(samples: Samples, n: int) -> float:
    """rep_n = 1 - sum of distinct n-grams inside each sample / sum of n-grams; 0 without any."""
    grams = [ngrams(ids, n) for ids in samples]
    total = sum(map(len, grams))
    return 1 - sum(len(set(each)) for each in grams) / total if total else 0.0


def ngram_diversity(samples: Samples) -> float:
    """prod_{n=2..4} (1 - rep_n), pooled over samples (SimCTG)."""
    return (
        (1 - pooled_repetition(samples, 2)) * (1 - pooled_repetition(samples, 3)) * (1 - pooled_repetition(samples, 4))
    )
