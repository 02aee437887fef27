"""Rows with holes: what a user gives of a text, as ids, and what came out, as text again."""

import re
from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise
from os.path import commonprefix
from typing import Any, NamedTuple

import torch
from torch import Tensor

from textflow.noise import sample_seeds
from textflow.samplers.prompt import answer
from textflow.types import Mask

HOLE = re.compile(r"\[MASK(?::(\d+))?\]")
DIGITS = 12  # of the size of a hole; one of more fits no row


class Row(NamedTuple):
    """A row of ids of which some are given.

    Args:
        ids: of a sample's length; where nothing is given they are not read.
        known: True where they are given.
        until: tokens that belong to the text; what comes after them is cut away.
    """

    ids: list[int]
    known: list[bool]
    until: int


def continued(tokenizer: Any, text: str, length: int, most: int | None = None) -> Row:
    """A text that goes on.

    Args:
        tokenizer: of the model.
        text: how it begins.
        length: tokens of a sample.
        most: tokens that a source may have, where the model was trained on pairs; its answer has those that are left.
    """
    ids = tokenizer.encode([text])[0]
    if not ids:
        raise ValueError(f"the prompt {text!r} has no token; give some text, or leave --prompt out")
    made = row(tokenizer, [ids], [], length, most or length - 1)
    return made._replace(until=length if most is None else len(ids) + length - most)


def infilled(tokenizer: Any, text: str, length: int) -> Row:
    """A text with holes, such as `a [MASK:8] b`: eight tokens between a and b.

    Args:
        tokenizer: of the model.
        text: with at least one hole.
        length: tokens of a sample.
    """
    parts, said = HOLE.split(text)[::2], HOLE.split(text)[1::2]
    sizes = [int(size[:DIGITS] if size else 0) for size in said]
    if not sizes or not all(sizes):
        raise ValueError(f"{text[:80]!r}: mark each hole by its number of tokens, such as 'a [MASK:8] b'")
    before, pieces = "", []
    for part in parts:
        pieces.append(after(tokenizer, before, part.rstrip()))
        before += part.rstrip()
    return row(tokenizer, pieces, sizes, length, length)


def row(tokenizer: Any, pieces: Sequence[list[int]], sizes: Sequence[int], length: int, most: int) -> Row:
    """Given pieces of ids with holes between them, and a hole to the end of the row.

    Args:
        tokenizer: of the model.
        pieces: of given ids, one more than there are holes between.
        sizes: of the holes.
        length: tokens of a sample.
        most: tokens that pieces and holes may take.
    """
    taken = sum(map(len, pieces)) + sum(sizes)
    if taken > most:
        raise ValueError(
            f"what is given takes {taken} tokens, but there is room for {most}: shorten it (a run that was not "
            "trained on pairs has more room with --length)"
        )
    ids, known = list[int](), list[bool]()
    for number, piece in enumerate(pieces):
        ids, known = ids + piece, known + [True] * len(piece)
        hole = sizes[number] if number < len(sizes) else 0
        ids, known = ids + [tokenizer.pad] * hole, known + [False] * hole
    rest = length - len(ids)
    return Row(ids + [tokenizer.pad] * rest, known + [False] * rest, len(ids))


def after(tokenizer: Any, before: str, text: str) -> list[int]:
    """Ids of a text that follows another: a word after a space is another token than at the beginning.

    Args:
        tokenizer: of the model.
        before: what was given to the left.
        text: what is given here.
    """
    if not before:
        return tokenizer.encode([text.lstrip()])[0]
    whole, left = tokenizer.encode([before + text, before])
    return whole[len(left) :] if whole[: len(left)] == left else tokenizer.encode([text.lstrip()])[0]


def from_the_left(fixed: Mask) -> None:
    """What is given comes first; an error otherwise."""
    if bool((fixed.long().diff(dim=1) > 0).any()):
        raise ValueError(
            "this model writes from left to right and cannot fill in what comes before given text: continue one with "
            "--prompt, or take a run of a Generator or a Masked model to fill in"
        )


def tensors(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """ids [B, L] and True where they are given [B, L]."""
    return torch.tensor([row.ids for row in rows]), torch.tensor([row.known for row in rows])


def told(tokenizer: Any, row: Row, ids: Sequence[int]) -> list[tuple[bool, str]]:
    """A text in pieces (whether it was given, text); what is written last ends with its EOS.

    Args:
        tokenizer: of the model.
        row: what was given.
        ids: what came out.
    """
    special, ended, kept = {tokenizer.eos, tokenizer.pad}, False, list[tuple[bool, int]]()
    last = max((spot for spot, known in enumerate(row.known) if known), default=-1)
    for spot, (known, token) in enumerate(zip(row.known[: row.until], ids, strict=False)):
        ended = ended or (spot > last and token == tokenizer.eos)
        if not ended and (known or token not in special):
            kept.append((known, token))
    groups = [(known, [token for _, token in part]) for known, part in groupby(kept, key=lambda pair: pair[0])]
    ends = list(accumulate((part for _, part in groups), initial=list[int]()))
    texts = tokenizer.words(ends)  # a piece is what its tokens add to the text before them: spaces stay right
    return [
        (known, new[len(commonprefix([old, new])) :])
        for (known, _), (old, new) in zip(groups, pairwise(texts), strict=True)
    ]


def answers(model: Any, ids: Tensor, fixed: Mask) -> list[str]:
    """What follows the sources of pairs, cut at its EOS.

    Args:
        model: trained on pairs.
        ids: sources and answers [B, L].
        fixed: True on the sources.
    """
    assert model.given is not None, "answers are of pairs"
    return model.tokenizer.decode(answer(ids, fixed, model.length - model.given, model.tokenizer.pad).tolist())


def exchanges(model: Any, ids: Tensor, fixed: Mask) -> list[str]:
    """Sources and answers, to look at; as `answers`."""
    sources = model.tokenizer.decode(ids.masked_fill(~fixed, model.tokenizer.pad).tolist())
    return [f"{said} => {reply}" for said, reply in zip(sources, answers(model, ids, fixed), strict=True)]


def shown(model: Any, n: int) -> list[str]:
    """Texts of a model in training, to look at; of pairs, sources of the held-out text and their answers.

    Args:
        model: that its trainer fits.
        n: number of texts.
    """
    if model.given is None:
        texts: list[str] = model.generate(n)
        return texts
    real = model.real_text(n, held_out=bool(len(model.trainer.datamodule.validation_rows)))
    assert real.fixed is not None, "pairs have sources"
    return exchanges(model, model.complete(real.ids, real.fixed, sample_seeds(0, 0, len(real.ids))), real.fixed)
