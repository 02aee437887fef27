"""MAUVE: how far generated text is from real text in a language model's features (Pillutla et al., 2021)."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any


def mauve(
    texts: Sequence[str],
    real: Sequence[str],
    least: int = 5000,
    name: str = "gpt2-large",
    length: int = 1024,
    **more: Any,
) -> float:
    """MAUVE of texts against real ones, in [0, 1], by the package mauve-text.

    Args:
        texts: generated.
        real: as many real ones.
        least: texts of each kind that the protocol needs; with fewer the number is biased.
        name: of the model that gives features.
        length: most tokens of a text.
        more: options of `mauve.compute_mauve`, such as device_id, mauve_scaling_factor and seed.
    """
    if min(len(texts), len(real)) < least or len(texts) != len(real):
        raise ValueError(
            f"MAUVE got {len(texts)} texts against {len(real)} real ones; the protocol needs at least {least} of each "
            "and equally many: sample more, or leave MAUVE out"
        )
    try:
        package = import_module("mauve")
    except ImportError as error:
        raise ValueError(f"MAUVE needs the package mauve-text ({error}): pip install 'textflow[mauve]'") from error
    options = {"featurize_model_name": name, "max_text_length": length, "verbose": False}
    return float(package.compute_mauve(p_text=list(texts), q_text=list(real), **(options | more)).mauve)
