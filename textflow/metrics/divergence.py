"""MAUVE: divergence of generated from real text in a language model's features (Pillutla et al., 2021)."""

import importlib
from typing import Any

from jaxtyping import Float
from torch import Tensor

from textflow.metrics.intervals import Interval, mean_over_seeds

QUANTIZATION_SEEDS = (25, 26, 27)  # random seeds of the quantisation; the first is the package's default


def mauve(
    features: Float[Tensor, "N d"],
    reference: Float[Tensor, "M d"],
    min_texts: int = 5000,
    seeds: tuple[int, ...] = QUANTIZATION_SEEDS,
) -> Interval:
    """MAUVE of generated against real texts, in [0, 1], by the package mauve-text; its interval is over quantisations.

    Args:
        features: scorer features of generated texts.
        reference: scorer features of as many real texts.
        min_texts: minimum number of texts of each kind; with fewer, MAUVE is biased.
        seeds: random seeds of the quantisations.
    """
    check_num_texts(len(features), len(reference), min_texts)
    compute = import_mauve().compute_mauve
    p, q = features.numpy(), reference.numpy()
    outputs = [compute(p_features=p, q_features=q, seed=seed, verbose=False) for seed in seeds]
    return mean_over_seeds([float(output.mauve) for output in outputs])


def check_num_texts(n: int, num_reference: int, min_texts: int) -> None:
    """Refuse fewer texts than the protocol needs, and unequal numbers."""
    if min(n, num_reference) < min_texts or n != num_reference:
        raise ValueError(
            f"MAUVE got {n} texts against {num_reference} real ones; the protocol needs at least {min_texts} of each "
            "and equally many: sample more, or leave MAUVE out"
        )


def import_mauve() -> Any:
    """Import the package mauve-text."""
    try:
        return importlib.import_module("mauve")
    except ImportError as error:
        raise ValueError(f"MAUVE needs the package mauve-text ({error}): pip install 'textflow[eval]'") from error
