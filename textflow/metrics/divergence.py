"""MAUVE: how far generated text is from real text in a language model's features (Pillutla et al., 2021)."""

import importlib
from typing import Any

from jaxtyping import Float
from torch import Tensor

from textflow.metrics.intervals import Interval, over_seeds

SEEDS = (25, 26, 27)  # of the quantisation; the first is the package's own


def mauve(
    features: Float[Tensor, "N d"], real: Float[Tensor, "M d"], least: int = 5000, seeds: tuple[int, ...] = SEEDS
) -> Interval:
    """MAUVE of generated against real texts, in [0, 1], by the package mauve-text; its interval is over quantisations.

    Args:
        features: of generated texts, from a scorer.
        real: of as many real ones.
        least: texts of each kind that the protocol needs; with fewer the number is biased.
        seeds: of the quantisations.
    """
    enough(len(features), len(real), least)
    compute = package().compute_mauve
    p, q = features.numpy(), real.numpy()
    return over_seeds([float(compute(p_features=p, q_features=q, seed=seed, verbose=False).mauve) for seed in seeds])


def enough(n: int, real: int, least: int) -> None:
    """Refuses fewer texts than the protocol needs, and unequally many."""
    if min(n, real) < least or n != real:
        raise ValueError(
            f"MAUVE got {n} texts against {real} real ones; the protocol needs at least {least} of each and equally "
            "many: sample more, or leave MAUVE out"
        )


def package() -> Any:
    """The package mauve-text."""
    try:
        return importlib.import_module("mauve")
    except ImportError as error:
        raise ValueError(f"MAUVE needs the package mauve-text ({error}): pip install 'textflow[eval]'") from error
