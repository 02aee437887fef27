"""Infilling: text with masked spans -> rows of token ids, and completed ids -> text."""

import re
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from os.path import commonprefix
from typing import NamedTuple

import torch

from textflow.codecs import Codec
from textflow.data import Tokenizer
from textflow.models.base import Trainable
from textflow.samplers.prompt import extract_answer
from textflow.types import Ids, Mask

MASK_PATTERN = re.compile(r"\[MASK(?::(\d+))?\]")
MAX_SIZE_DIGITS = 12  # digits of a span's size; a longer number fits no row


class TokenRow(NamedTuple):
    """A row of token ids with a prompt.

    Args:
        ids: token ids of a sample's length; only those of the prompt are used.
        prompt_mask: True on the prompt.
        text_end: number of tokens in the text; later tokens are cut off.
    """

    ids: list[int]
    prompt_mask: list[bool]
    text_end: int


def prompt_row(tokenizer: Tokenizer, text: str, seq_length: int, max_source_length: int | None = None) -> TokenRow:
    """A row that continues a prompt.

    Args:
        tokenizer: tokenizer of the model.
        text: prompt.
        seq_length: number of tokens of a sample.
        max_source_length: most tokens of a source, for models trained on pairs; the answer takes the remaining tokens.
    """
    ids = tokenizer.encode([text])[0]
    if not ids:
        raise ValueError(f"the prompt {text!r} has no token; give some text, or leave --prompt out")
    row = build_row(tokenizer, [ids], [], seq_length, max_source_length or seq_length - 1)
    return row._replace(text_end=seq_length if max_source_length is None else len(ids) + seq_length - max_source_length)


def infill_row(tokenizer: Tokenizer, text: str, seq_length: int) -> TokenRow:
    """A row for text with masked spans, such as `a [MASK:8] b`: eight tokens between a and b.

    Args:
        tokenizer: tokenizer of the model.
        text: text with at least one masked span.
        seq_length: number of tokens of a sample.
    """
    parts = MASK_PATTERN.split(text)
    sizes = [int(size[:MAX_SIZE_DIGITS] if size else 0) for size in parts[1::2]]
    if not sizes or not all(sizes):
        raise ValueError(f"{text[:80]!r}: mark each masked span with its number of tokens, such as 'a [MASK:8] b'")
    prefix, segments = "", []
    for part in parts[::2]:
        segments.append(encode_suffix(tokenizer, prefix, part.rstrip()))
        prefix += part.rstrip()
    return build_row(tokenizer, segments, sizes, seq_length, seq_length)


def build_row(
    tokenizer: Tokenizer, segments: Sequence[list[int]], mask_sizes: Sequence[int], seq_length: int, max_tokens: int
) -> TokenRow:
    """A row of prompt segments with masked spans between them, masked from there to its end.

    Args:
        tokenizer: tokenizer of the model.
        segments: token ids of the prompt's segments, one more than there are spans.
        mask_sizes: number of tokens of each masked span.
        seq_length: number of tokens of a sample.
        max_tokens: most tokens of segments and spans together.
    """
    total = sum(map(len, segments)) + sum(mask_sizes)
    if total > max_tokens:
        raise ValueError(
            f"the prompt takes {total} tokens, but there is room for {max_tokens}: shorten it (a run that was not "
            "trained on pairs has more room with --length)"
        )
    ids, prompt_mask = list[int](), list[bool]()
    for segment, size in zip(segments, [*mask_sizes, seq_length - total], strict=True):
        ids += segment + [tokenizer.pad] * size
        prompt_mask += [True] * len(segment) + [False] * size
    return TokenRow(ids, prompt_mask, total)


def encode_suffix(tokenizer: Tokenizer, prefix: str, text: str) -> list[int]:
    """Token ids of a text that follows a prefix; a word after a space has other tokens than at the beginning."""
    if prefix:
        joint, left = tokenizer.encode([prefix + text, prefix])
        if joint[: len(left)] == left:
            return joint[len(left) :]
    return tokenizer.encode([text.lstrip()])[0]


def require_prefix_prompt(prompt_mask: Mask) -> None:
    """Raise an error unless the prompt comes first in its row."""
    if bool((prompt_mask.long().diff(dim=1) > 0).any()):
        raise ValueError(
            "this model generates from left to right and cannot infill before given text: continue a text with "
            "--prompt, or infill with a run of a Generator or a DiscreteDiffusion model"
        )


def stack_rows(rows: Sequence[TokenRow]) -> tuple[Ids, Mask]:
    """Token ids [B, L] and the prompt mask [B, L]."""
    return torch.tensor([row.ids for row in rows]), torch.tensor([row.prompt_mask for row in rows])


def decode_segments(tokenizer: Tokenizer, row: TokenRow, ids: Sequence[int]) -> list[tuple[bool, str]]:
    """Segments (True if from the prompt, text) of a row with completed ids; the last generated one ends at its EOS."""
    special, ended, tokens = {tokenizer.eos, tokenizer.pad}, False, list[tuple[bool, int]]()
    last = max((i for i, known in enumerate(row.prompt_mask) if known), default=-1)
    for i, (known, token) in enumerate(zip(row.prompt_mask[: row.text_end], ids, strict=False)):
        ended = ended or (i > last and token == tokenizer.eos)
        if not ended and (known or token not in special):
            tokens.append((known, token))
    groups = [(known, [token for _, token in part]) for known, part in groupby(tokens, key=lambda pair: pair[0])]
    ends = list(accumulate((part for _, part in groups), initial=list[int]()))
    texts = tokenizer.decode_ids(ends)  # a segment is the text that its tokens add, so spaces are right
    return [
        (known, new[len(commonprefix([old, new])) :])
        for (known, _), (old, new) in zip(groups, pairwise(texts), strict=True)
    ]


def decode_answers(model: Trainable, ids: Ids, prompt_mask: Mask) -> list[str]:
    """Answers to the sources of pairs, cut at their EOS.

    Args:
        model: model that was trained on pairs.
        ids: token ids of sources and answers [B, L].
        prompt_mask: True on the sources [B, L].
    """
    text_format, tokenizer = model.text_format, model.tokenizer
    assert text_format.max_source_length is not None, "needs a model trained on pairs"
    length = text_format.seq_length - text_format.max_source_length
    return tokenizer.decode(extract_answer(ids, prompt_mask, length, tokenizer.pad).tolist())


def format_pairs(model: Trainable, ids: Ids, prompt_mask: Mask) -> list[str]:
    """Lines `source => answer` for a preview; arguments as in `decode_answers`."""
    sources = model.tokenizer.decode(ids.masked_fill(~prompt_mask, model.tokenizer.pad).tolist())
    answers = decode_answers(model, ids, prompt_mask)
    return [f"{source} => {answer}" for source, answer in zip(sources, answers, strict=True)]


def refuse_prompt(codec: Codec | None, length: int, cfg_scale: float | None) -> None:
    """Raise an error for a prompt that a run cannot continue.

    Args:
        codec: codec whose latents are replaced by the prompt's, each by that of its token; None if none are.
        length: number of tokens in a row.
        cfg_scale: guidance by prompts that a run without training on them was given; None if none was.
    """
    if codec is not None and not codec.has_latent_per_token(length):
        raise ValueError(
            f"the codec {type(codec).__name__} has no latent of a single token, so a text cannot be continued or "
            "filled in; leave the prompt out, or take a codec with a latent per token"
        )
    if cfg_scale is not None:
        raise ValueError(
            f"the prompt's guidance is {cfg_scale}, but this run was not trained on prompts "
            "(data.max_source_length): leave it out"
        )
