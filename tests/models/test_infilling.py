"""What a user gives of a text becomes a row with holes, and comes back as text."""

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


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> SentencePiece:
    made = SentencePiece(400)
    made.prepare(lambda: (one.text for one in islice(Bible().documents(), 20)), tmp_path_factory.mktemp("words"))
    return made


def test_a_text_goes_on_to_the_end_of_the_row(words: SentencePiece) -> None:
    ids = words.encode(["And the king"])[0]
    row = prompt_row(words, "And the king", 30)
    assert row.ids[: len(ids)] == ids and row.text_end == len(row.ids) == 30
    assert row.prompt_mask == [True] * len(ids) + [False] * (30 - len(ids))


def test_an_answer_has_the_room_that_sources_leave(words: SentencePiece) -> None:
    row = prompt_row(words, "And the king", 30, max_source_length=20)
    assert row.text_end == sum(row.prompt_mask) + 10


def test_a_source_longer_than_those_of_training_is_refused(words: SentencePiece) -> None:
    tokens = len(words.encode(["And the king said unto them"])[0])
    with pytest.raises(ValueError, match=f"takes {tokens} tokens, but there is room for 3"):
        prompt_row(words, "And the king said unto them", 30, max_source_length=3)


def test_a_hole_stands_between_what_is_given(words: SentencePiece) -> None:
    row = infill_row(words, "And the [MASK:3] said [MASK:2], Go ye", 40)
    parts = [
        words.encode(["And the"])[0],
        encode_suffix(words, "And the", " said"),
        encode_suffix(words, "And the said", ", Go ye"),
    ]
    expected = [True] * len(parts[0]) + [False] * 3 + [True] * len(parts[1]) + [False] * 2 + [True] * len(parts[2])
    assert row.prompt_mask == expected + [False] * (40 - len(expected)) and row.text_end == len(expected)
    given = [i for i, known in zip(row.ids, row.prompt_mask, strict=True) if known]
    assert given == sum(parts, []) and words.decode_ids([given])[0] == "And the said, Go ye"


@pytest.mark.parametrize("text", ["[MASK:3] said unto them", "And the [MASK:4]", "[MASK:2][MASK:3]"])
def test_a_hole_may_stand_at_an_end(words: SentencePiece, text: str) -> None:
    row = infill_row(words, text, 40)
    assert len(row.ids) == 40 and row.text_end - sum(row.prompt_mask) == sum(map(int, (c for c in text if c.isdigit())))


@pytest.mark.parametrize("text", ["no hole", "a [MASK] b", "a [MASK:0] b"])
def test_a_hole_needs_its_size(words: SentencePiece, text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 'a \[MASK:8\] b'"):
        infill_row(words, text, 40)


def test_what_does_not_fit_is_refused(words: SentencePiece) -> None:
    with pytest.raises(ValueError, match="room for 10: shorten it"):
        infill_row(words, "And the [MASK:30] king", 10)


@pytest.mark.parametrize("size", ["99999999999", "9" * 5000, f"9] and [MASK:{10**11}"])
def test_a_hole_that_fits_nowhere_is_refused_before_it_is_made(words: SentencePiece, size: str) -> None:
    with pytest.raises(ValueError, match="room for 10: shorten it"):
        infill_row(words, f"And the [MASK:{size}] king", 10)


def test_an_empty_prompt_is_refused(words: SentencePiece) -> None:
    with pytest.raises(ValueError, match="has no token"):
        prompt_row(words, "", 10)


def test_the_text_shows_what_was_given(words: SentencePiece) -> None:
    row = infill_row(words, "And the [MASK:2] said", 20)
    new = words.encode(["the sea"])[0]
    size = row.prompt_mask.index(False)
    ids = list(row.ids)
    ids[size : size + 2] = new[:2]
    pieces = decode_segments(words, row, ids)
    assert [given for given, _ in pieces] == [True, False, True]
    assert pieces[0][1] == "And the" and pieces[2][1] == " said"
    assert "".join(text for _, text in pieces) == words.decode_ids([ids[: row.text_end]])[0]


def test_what_is_written_last_ends_with_its_end(words: SentencePiece) -> None:
    row = prompt_row(words, "And the", 20)
    start, said = sum(row.prompt_mask), words.encode(["king"])[0]
    ids = row.ids[:start] + said + [words.eos] + words.encode(["sea"])[0]
    ids += [words.pad] * (20 - len(ids))
    assert "".join(text for _, text in decode_segments(words, row, ids)) == "And the king"


def test_rows_become_tensors(words: SentencePiece) -> None:
    ids, fixed = stack_rows([prompt_row(words, text, 20) for text in ("And", "And the king")])
    assert ids.shape == fixed.shape == (2, 20) and ids.dtype == torch.int64 and fixed.dtype == torch.bool


def test_what_is_written_from_the_left_begins_with_what_is_given() -> None:
    require_prefix_prompt(torch.tensor([[True, True, False], [False, False, False]]))
    with pytest.raises(ValueError, match="--prompt"):
        require_prefix_prompt(torch.tensor([[True, False, True]]))
