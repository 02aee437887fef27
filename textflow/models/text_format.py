"""TextFormat: what a model knows of its text, apart from the number of token ids."""

from typing import NamedTuple

from textflow.data import Tokenizer


class TextFormat(NamedTuple):
    """Format of a model's rows of token ids; `textflow fit` and `textflow.load` take it from the recipe's data.

    Args:
        tokenizer: maps text to token ids and back; None for a model of token ids alone.
        seq_length: tokens of a row.
        max_source_length: most tokens of a source, for a model trained on pairs; None for one of single texts.
        packed: whether a row may begin within a text; otherwise each row is one text from its start.
    """

    tokenizer: Tokenizer | None = None
    seq_length: int = 128
    max_source_length: int | None = None
    packed: bool = True
