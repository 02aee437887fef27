import json
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.tiny_scorer import WORDS
from tests.helpers.word_tokenizer import Words
from textflow.eval.samples import batches, draw, kept, place_of, texts_of
from textflow.metrics import KEPT
from textflow.noise import Noise


class Net(nn.Module):
    def forward(self, z, t):
        return z


class Killed(Exception):
    """In the middle of a batch."""


class Drawn:
    """Writes words by the samples' own streams; breaks down after so many batches."""

    def __init__(self, life: int = 10**6) -> None:
        self.net, self.tokenizer, self.life, self.asked = Net(), Words(WORDS), life, 0

    def sample(self, seeds, steps, sampler=None):
        self.asked += 1
        if self.asked > self.life:
            raise Killed
        for _ in range(steps):
            self.net(torch.zeros(len(seeds), 1), 0.0)
        return (Noise(seeds).uniform(5) * len(WORDS)).long()


def ids(lines) -> list[list[int]]:
    return [line.ids for line in lines]


@pytest.mark.parametrize("life", [0, 1, 2])
def test_a_run_that_is_killed_goes_on_and_gives_the_same_samples(tmp_path, life):
    whole = draw(Drawn(), 3, 10, 0, None, 4)
    with pytest.raises(Killed):
        draw(Drawn(life), 3, 10, 0, None, 4, tmp_path)
    second = Drawn()
    again = draw(second, 3, 10, 0, None, 4, tmp_path)
    assert ids(again) == ids(whole) and [line.passes for line in again] == [line.passes for line in whole] == [3.0] * 10
    assert second.asked == 3 - life and len(list(tmp_path.iterdir())) == 3


def test_what_is_there_is_not_made_again_and_fewer_are_the_first(tmp_path):
    whole = draw(Drawn(), 3, 10, 0, None, 4, tmp_path)
    assert draw(Drawn(0), 3, 10, 0, None, 3, tmp_path) == whole
    assert draw(Drawn(0), 3, 6, 0, None, 4, tmp_path) == whole[:6]
    assert ids(draw(Drawn(), 3, 13, 0, None, 4, tmp_path)) == ids(draw(Drawn(), 3, 13, 0, None, 4))


@pytest.mark.parametrize("harm", [b'{"index": 5, "ids": [1', b"\xff\xfe", b"", b"[]", b'{"index": "a"}'])
def test_a_damaged_line_is_made_again(tmp_path, harm):
    whole = draw(Drawn(), 3, 10, 0, None, 4, tmp_path)
    path = tmp_path / "00000004-00000007.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], harm, *lines[2:]]))
    assert set(range(10)) - set(kept(tmp_path, 10)) == {5}
    second = Drawn()
    assert ids(draw(second, 3, 10, 0, None, 4, tmp_path)) == ids(whole) and second.asked == 1


def test_several_processes_make_all_of_it_between_them(tmp_path):
    for rank in range(3):
        draw(Drawn(), 2, 20, 0, None, 4, tmp_path, (rank, 3))
    assert ids(draw(Drawn(0), 2, 20, 0, None, 4, tmp_path)) == ids(draw(Drawn(), 2, 20, 0, None, 4))


def test_batches_are_neighbours():
    assert list(batches([0, 1, 2, 5, 6, 9], 2)) == [[0, 1], [2], [5, 6], [9]]
    assert list(batches([], 2)) == []


def test_the_texts_are_kept_for_people_and_the_place_says_what_it_is(tmp_path):
    cell = {"steps": 2, "sampler": {"class": "Euler"}}
    place = place_of(tmp_path, cell)
    draw(Drawn(), 2, 2, 0, None, 4, place)
    line = json.loads(next(place.glob("*.jsonl")).read_text().splitlines()[0])
    assert line["text"] == Words(WORDS).decode([line["ids"]])[0]
    said: dict[str, Any] = json.loads((place / "cell.json").read_text())
    assert said["steps"] == 2 and said["code"] and place_of(tmp_path, cell) == place
    assert place_of(tmp_path, cell | {"steps": 3}) != place


def test_special_tokens_are_kept_only_where_asked():
    rows = [[4, 0, 5, 6, 0, 0], [0, 0, 0], [4, 5]]
    assert texts_of(Words(WORDS), rows) == ["beginning", "", "beginning God"]
    said = texts_of(Words(WORDS), rows, special=True)
    assert said == [f"beginning{KEPT}God created{KEPT}{KEPT}", KEPT * 3, "beginning God"]
