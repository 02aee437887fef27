"""Infilling: text with masked spans -> rows of token ids, and completed ids -> text."""

import re
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from os.path import commonprefix
from typing import Any, NamedTuple

import torch
from torch import Tensor

from textflow.noise import sample_seeds
from textflow.samplers.prompt import extract_answer
from textflow.types import Mask

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


def prompt_row(tokenizer: Any, text: str, seq_length: int, max_source_length: int | None = None) -> TokenRow:
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


def infill_row(tokenizer: Any, text: str, seq_length: int) -> TokenRow:
    """A row for text with masked spans, such as `a [MASK:8] b`: eight tokens between a and b.

    Args:
        tokenizer: tokenizer of the model.
        text: text with at least one masked span.
        seq_length: number of tokens of a sample.
    """
    parts, numbers = MASK_PATTERN.split(text)[::2], MASK_PATTERN.split(text)[1::2]
    sizes = [int(size[:MAX_SIZE_DIGITS] if size else 0) for size in numbers]
    if not sizes or not all(sizes):
        raise ValueError(f"{text[:80]!r}: mark each masked span with its number of tokens, such as 'a [MASK:8] b'")
    before, pieces = "", []
    for part in parts:
        pieces.append(encode_suffix(tokenizer, before, part.rstrip()))
        before += part.rstrip()
    return build_row(tokenizer, pieces, sizes, seq_length, seq_length)


def build_row(
    tokenizer: Any, segments: Sequence[list[int]], mask_sizes: Sequence[int], seq_length: int, max_tokens: int
) -> TokenRow:
    """A row of prompt segments with masked spans between them, masked from there to its end.

    Args:
        tokenizer: tokenizer of the model.
        segments: token ids of the prompt's segments, one more than there are spans.
        mask_sizes: number of tokens of each masked span.
        seq_length: number of tokens of a sample.
        max_tokens: most tokens of segments and spans together.
    """
    taken = sum(map(len, segments)) + sum(mask_sizes)
    if taken > max_tokens:
        raise ValueError(
            f"the prompt takes {taken} tokens, but there is room for {max_tokens}: shorten it (a run that was not "
            "trained on pairs has more room with --length)"
        )
    ids, known = list[int](), list[bool]()
    for number, piece in enumerate(segments):
        ids, known = ids + piece, known + [True] * len(piece)
        span = mask_sizes[number] if number < len(mask_sizes) else 0
        ids, known = ids + [tokenizer.pad] * span, known + [False] * span
    rest = seq_length - len(ids)
    return TokenRow(ids + [tokenizer.pad] * rest, known + [False] * rest, len(ids))


def encode_suffix(tokenizer: Any, prefix: str, text: str) -> list[int]:
    """Token ids of a text that follows a prefix; a word after a space has other tokens than at the beginning.

    Args:
        tokenizer: tokenizer of the model.
        prefix: text to the left.
        text: text to encode.
    """
    if not prefix:
        return tokenizer.encode([text.lstrip()])[0]
    joint, left = tokenizer.encode([prefix + text, prefix])
    return joint[len(left) :] if joint[: len(left)] == left else tokenizer.encode([text.lstrip()])[0]


def require_prefix_prompt(prompt_mask: Mask) -> None:
    """Raise an error unless the prompt comes first in its row."""
    if bool((prompt_mask.long().diff(dim=1) > 0).any()):
        raise ValueError(
            "this model generates from left to right and cannot infill before given text: continue a text with "
            "--prompt, or infill with a run of a Generator or a DiscreteDiffusion model"
        )


def stack_rows(rows: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
    """Token ids [B, L] and the prompt mask [B, L]."""
    return torch.tensor([row.ids for row in rows]), torch.tensor([row.prompt_mask for row in rows])


def decode_segments(tokenizer: Any, row: TokenRow, ids: Sequence[int]) -> list[tuple[bool, str]]:
    """Segments (True if from the prompt, text); the last generated segment ends at its EOS.

    Args:
        tokenizer: tokenizer of the model.
        row: row with the prompt.
        ids: completed token ids [L].
    """
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


def decode_answers(model: Any, ids: Tensor, prompt_mask: Mask) -> list[str]:
    """Answers to the sources of pairs, cut at their EOS.

    Args:
        model: model that was trained on pairs.
        ids: token ids of sources and answers [B, L].
        prompt_mask: True on the sources [B, L].
    """
    assert model.max_source_length is not None, "needs a model trained on pairs"
    return model.tokenizer.decode(
        extract_answer(ids, prompt_mask, model.seq_length - model.max_source_length, model.tokenizer.pad).tolist()
    )


def format_pairs(model: Any, ids: Tensor, prompt_mask: Mask) -> list[str]:
    """Lines `source => answer` for a preview; arguments as in `decode_answers`."""
    sources = model.tokenizer.decode(ids.masked_fill(~prompt_mask, model.tokenizer.pad).tolist())
    answers = decode_answers(model, ids, prompt_mask)
    return [f"{source} => {answer}" for source, answer in zip(sources, answers, strict=True)]


def preview_texts(model: Any, num_samples: int) -> list[str]:
    """Texts of a model in training for a preview; for pairs, held-out sources and their answers.

    Args:
        model: model that a trainer fits.
        num_samples: number of texts.
    """
    if model.max_source_length is None:
        texts: list[str] = model.generate(num_samples)
        return texts
    real = model.data_batch(num_samples, held_out=bool(len(model.trainer.datamodule.validation_rows)))
    assert real.prompt_mask is not None, "batches of pairs have a prompt mask"
    return format_pairs(
        model, model.complete(real.ids, real.prompt_mask, sample_seeds(0, 0, len(real.ids))), real.prompt_mask
    )
