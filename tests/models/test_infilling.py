"""A prompt or a text with masked spans becomes a row, and a completed row becomes text."""

from itertools import islice

import pytest
import torch

from textflow.data import Bible, SentencePiece
from textflow.models.infilling import (
    decode_segments,
    encode_suffix,
    infill_row,
    prompt_row,
    require_prefix_prompt,
    stack_rows,
)

KING = "And the king said unto them"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePiece:
    made = SentencePiece(400)
    made.prepare(lambda: (one.text for one in islice(Bible().documents(), 20)), tmp_path_factory.mktemp("tokenizer"))
    return made


def test_a_prompt_is_continued_to_the_end_of_its_row_or_of_its_answer(tokenizer: SentencePiece) -> None:
    ids = tokenizer.encode(["And the king"])[0]
    row = prompt_row(tokenizer, "And the king", 30)
    assert row.ids[: len(ids)] == ids and row.text_end == len(row.ids) == 30
    assert row.prompt_mask == [True] * len(ids) + [False] * (30 - len(ids))
    assert prompt_row(tokenizer, "And the king", 30, max_source_length=20).text_end == len(ids) + 10


def test_masked_spans_lie_between_the_segments_of_a_prompt(tokenizer: SentencePiece) -> None:
    row = infill_row(tokenizer, "And the [MASK:3] said [MASK:2], Go ye", 40)
    segments = [
        tokenizer.encode(["And the"])[0],
        encode_suffix(tokenizer, "And the", " said"),
        encode_suffix(tokenizer, "And the said", ", Go ye"),
    ]
    first, second, third = ([True] * len(segment) for segment in segments)
    mask = [*first, *[False] * 3, *second, *[False] * 2, *third]
    assert row.prompt_mask == mask + [False] * (40 - len(mask)) and row.text_end == len(mask)
    ids = [i for i, known in zip(row.ids, row.prompt_mask, strict=True) if known]
    assert ids == sum(segments, []) and tokenizer.decode_ids([ids])[0] == "And the said, Go ye"


@pytest.mark.parametrize(("text", "size"), [("[MASK:3] said", 3), ("And the [MASK:4]", 4), ("[MASK:2][MASK:3]", 5)])
def test_a_span_may_be_at_an_end(tokenizer: SentencePiece, text: str, size: int) -> None:
    row = infill_row(tokenizer, text, 40)
    assert len(row.ids) == 40 and row.text_end - sum(row.prompt_mask) == size


@pytest.mark.parametrize(
    "span", ["[MASK:30]", "[MASK:99999999999]", f"[MASK:{'9' * 5000}]", f"[MASK:9] and [MASK:{10**11}]"]
)
def test_a_text_that_does_not_fit_is_an_error_before_its_row_is_built(tokenizer: SentencePiece, span: str) -> None:
    with pytest.raises(ValueError, match="room for 10: shorten it"):
        infill_row(tokenizer, f"And the {span} king", 10)


def test_wrong_prompts_are_errors(tokenizer: SentencePiece) -> None:
    for text in ("no span", "a [MASK] b", "a [MASK:0] b"):
        with pytest.raises(ValueError, match=r"such as 'a \[MASK:8\] b'"):
            infill_row(tokenizer, text, 40)
    with pytest.raises(ValueError, match=f"takes {len(tokenizer.encode([KING])[0])} tokens, but there is room for 3"):
        prompt_row(tokenizer, KING, 30, max_source_length=3)
    with pytest.raises(ValueError, match="has no token"):
        prompt_row(tokenizer, "", 10)
    require_prefix_prompt(torch.tensor([[True, True, False], [False, False, False]]))
    with pytest.raises(ValueError, match="--prompt"):
        require_prefix_prompt(torch.tensor([[True, False, True]]))


def test_segments_are_the_prompt_and_the_filled_spans(tokenizer: SentencePiece) -> None:
    row = infill_row(tokenizer, "And the [MASK:2] said", 20)
    start, ids = row.prompt_mask.index(False), list(row.ids)
    ids[start : start + 2] = tokenizer.encode(["the sea"])[0][:2]
    segments = decode_segments(tokenizer, row, ids)
    assert [known for known, _ in segments] == [True, False, True]
    assert segments[0][1] == "And the" and segments[2][1] == " said"
    assert "".join(text for _, text in segments) == tokenizer.decode_ids([ids[: row.text_end]])[0]


def test_the_last_segment_ends_at_its_eos(tokenizer: SentencePiece) -> None:
    row = prompt_row(tokenizer, "And the", 20)
    king, sea = tokenizer.encode(["king", "sea"])
    ids = row.ids[: sum(row.prompt_mask)] + king + [tokenizer.eos] + sea
    ids += [tokenizer.pad] * (20 - len(ids))
    assert "".join(text for _, text in decode_segments(tokenizer, row, ids)) == "And the king"


def test_rows_become_tensors(tokenizer: SentencePiece) -> None:
    ids, prompt_mask = stack_rows([prompt_row(tokenizer, text, 20) for text in ("And", "And the king")])
    assert ids.shape == prompt_mask.shape == (2, 20) and (ids.dtype, prompt_mask.dtype) == (torch.int64, torch.bool)
