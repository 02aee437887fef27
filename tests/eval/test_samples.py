import json
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.tiny_scorer import WORDS
from tests.helpers.word_tokenizer import Words
from textflow.eval.samples import contiguous_batches, decode_texts, draw_samples, read_samples, samples_folder
from textflow.metrics import EOS_TEXT
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
    whole = draw_samples(Drawn(), 3, 10, 0, None, 4)
    with pytest.raises(Killed):
        draw_samples(Drawn(life), 3, 10, 0, None, 4, tmp_path)
    second = Drawn()
    again = draw_samples(second, 3, 10, 0, None, 4, tmp_path)
    assert ids(again) == ids(whole) and [line.nfe for line in again] == [line.nfe for line in whole] == [3.0] * 10
    assert second.asked == 3 - life and len(list(tmp_path.iterdir())) == 3


def test_what_is_there_is_not_made_again_and_fewer_are_the_first(tmp_path):
    whole = draw_samples(Drawn(), 3, 10, 0, None, 4, tmp_path)
    assert draw_samples(Drawn(0), 3, 10, 0, None, 3, tmp_path) == whole
    assert draw_samples(Drawn(0), 3, 6, 0, None, 4, tmp_path) == whole[:6]
    assert ids(draw_samples(Drawn(), 3, 13, 0, None, 4, tmp_path)) == ids(draw_samples(Drawn(), 3, 13, 0, None, 4))


@pytest.mark.parametrize("harm", [b'{"index": 5, "ids": [1', b"\xff\xfe", b"", b"[]", b'{"index": "a"}'])
def test_a_damaged_line_is_made_again(tmp_path, harm):
    whole = draw_samples(Drawn(), 3, 10, 0, None, 4, tmp_path)
    path = tmp_path / "00000004-00000007.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], harm, *lines[2:]]))
    assert set(range(10)) - set(read_samples(tmp_path, 10)) == {5}
    second = Drawn()
    assert ids(draw_samples(second, 3, 10, 0, None, 4, tmp_path)) == ids(whole) and second.asked == 1


def test_several_processes_make_all_of_it_between_them(tmp_path):
    for rank in range(3):
        draw_samples(Drawn(), 2, 20, 0, None, 4, tmp_path, (rank, 3))
    assert ids(draw_samples(Drawn(0), 2, 20, 0, None, 4, tmp_path)) == ids(draw_samples(Drawn(), 2, 20, 0, None, 4))


def test_batches_are_neighbours():
    assert list(contiguous_batches([0, 1, 2, 5, 6, 9], 2)) == [[0, 1], [2], [5, 6], [9]]
    assert list(contiguous_batches([], 2)) == []


def test_the_texts_are_kept_for_people_and_the_place_says_what_it_is(tmp_path):
    cell = {"steps": 2, "sampler": {"class": "Euler"}}
    place = samples_folder(tmp_path, cell)
    draw_samples(Drawn(), 2, 2, 0, None, 4, place)
    line = json.loads(next(place.glob("*.jsonl")).read_text().splitlines()[0])
    assert line["text"] == Words(WORDS).decode([line["ids"]])[0]
    said: dict[str, Any] = json.loads((place / "point.json").read_text())
    assert said["steps"] == 2 and said["code"] and samples_folder(tmp_path, cell) == place
    assert samples_folder(tmp_path, cell | {"steps": 3}) != place


def test_special_tokens_are_kept_only_where_asked():
    rows = [[4, 0, 5, 6, 0, 0], [0, 0, 0], [4, 5]]
    assert decode_texts(Words(WORDS), rows) == ["beginning", "", "beginning God"]
    said = decode_texts(Words(WORDS), rows, keep_special=True)
    assert said == [f"beginning{EOS_TEXT}God created{EOS_TEXT}{EOS_TEXT}", EOS_TEXT * 3, "beginning God"]
