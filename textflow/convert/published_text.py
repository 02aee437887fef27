"""Training text, tokenizer and row length of the published systems, by the number of their tokens."""

from collections.abc import Mapping
from typing import NamedTuple

from textflow.data import LazyHFTokenizer

END_OF_TEXT = "<|endoftext|>"


class PublishedText(NamedTuple):
    """The text that a published checkpoint was trained on.

    Args:
        tokenizer: name of its tokenizer on the Hub.
        seq_length: tokens of a row.
        source: name and revision of the text on the Hub.
    """

    tokenizer: str
    seq_length: int
    source: Mapping[str, str]


OPENWEBTEXT = PublishedText("gpt2", 1024, {"name": "Skylion007/openwebtext", "revision": "refs/convert/parquet"})
LM1B = PublishedText(
    "bert-base-uncased", 128, {"name": "billion-word-benchmark/lm1b", "revision": "refs/convert/parquet"}
)
BERT_TOKENS = 30_522


def published_text(tokens: int) -> PublishedText:
    """LM1B for the tokens of bert-base-uncased, else OpenWebText, whose tokens are GPT-2's."""
    return LM1B if tokens == BERT_TOKENS else OPENWEBTEXT


def lazy_tokenizer(name: str | None, vocab_size: int) -> LazyHFTokenizer:
    """The tokenizer of a checkpoint; FLM's and Duo's have one more id than GPT-2's, '[PAD]', which stands for no text.

    Args:
        name: Hub name or folder; default: that of the published text.
        vocab_size: number of tokens.
    """
    name = name or published_text(vocab_size).tokenizer
    end = "[SEP]" if "bert" in name else END_OF_TEXT
    return LazyHFTokenizer(name, vocab_size, eos_token=end, pad_token="[PAD]" if "bert" in name else end)


def refuse_short(seq_length: int | None, least: int = 1) -> None:
    """Raise an error if the length that a user gives is below the least."""
    if seq_length is not None and seq_length < least:
        tokens = "1 token" if least == 1 else f"{least} tokens"
        raise ValueError(f"seq_length is {seq_length}; a text needs at least {tokens}, such as --seq-length 1024")
