import json
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.systems import make
from tests.helpers.tiny_scorer import WORDS
from tests.helpers.trained_codecs import WIDTHS
from tests.helpers.word_tokenizer import Words
from textflow.eval.samples import contiguous_batches, decode_texts, draw_samples, read_samples, samples_folder
from textflow.metrics import EOS_TEXT
from textflow.nets import DiT
from textflow.noise import Noise


class Net(nn.Module):
    def forward(self, z, t):
        return z


class RandomGenerator:
    """Random words from the noise stream of each sample; fails after `max_batches`."""

    def __init__(self, max_batches: int = 10**6) -> None:
        self.net, self.tokenizer, self.max_batches, self.num_batches = Net(), Words(WORDS), max_batches, 0

    def sample_ids(self, seeds, steps, sampler=None):
        self.num_batches += 1
        if self.num_batches > self.max_batches:
            raise RuntimeError
        for _ in range(steps):
            self.net(torch.zeros(len(seeds), 1), 0.0)
        return (Noise(seeds).uniform(5) * len(WORDS)).long()


def ids(lines) -> list[list[int]]:
    return [line.ids for line in lines]


def draw(generator, num_samples: int = 10, folder=None, batch_size: int = 4, shard=(0, 1)):
    return draw_samples(generator, 3, num_samples, 0, None, batch_size, folder, shard)


@pytest.mark.parametrize("max_batches", [0, 1, 2])
def test_an_interrupted_run_resumes_with_the_same_samples(tmp_path, max_batches):
    expected, second = draw(RandomGenerator()), RandomGenerator()
    with pytest.raises(RuntimeError):
        draw(RandomGenerator(max_batches), 10, tmp_path)
    resumed = draw(second, 10, tmp_path)
    assert ids(resumed) == ids(expected) and {line.nfe for line in [*resumed, *expected]} == {3.0}
    assert second.num_batches == 3 - max_batches and len(list(tmp_path.iterdir())) == 3


def test_saved_samples_and_the_shards_of_several_processes_are_reused(tmp_path):
    samples = draw(RandomGenerator(), 10, tmp_path)
    assert draw(RandomGenerator(0), 10, tmp_path, 3) == samples
    assert draw(RandomGenerator(0), 6, tmp_path) == samples[:6]
    assert ids(draw(RandomGenerator(), 13, tmp_path)) == ids(draw(RandomGenerator(), 13))
    for rank in range(3):
        draw(RandomGenerator(), 20, tmp_path / "shards", shard=(rank, 3))
    assert ids(draw(RandomGenerator(0), 20, tmp_path / "shards")) == ids(draw(RandomGenerator(), 20))


@pytest.mark.parametrize("damage", [b'{"index": 5, "ids": [1', b"\xff\xfe", b"", b"[]", b'{"index": "a"}'])
def test_a_damaged_line_is_generated_again(tmp_path, damage):
    expected, second = draw(RandomGenerator(), 10, tmp_path), RandomGenerator()
    path = tmp_path / "00000004-00000007.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    assert set(range(10)) - set(read_samples(tmp_path, 10)) == {5}
    assert ids(draw(second, 10, tmp_path)) == ids(expected) and second.num_batches == 1


def test_batches_are_contiguous():
    assert list(contiguous_batches([0, 1, 2, 5, 6, 9], 2)) == [[0, 1], [2], [5, 6], [9]]
    assert list(contiguous_batches([], 2)) == []


def test_a_sample_folder_holds_the_texts_and_the_sampling_settings(tmp_path):
    point = {"steps": 2, "sampler": {"class": "Euler"}}
    folder = samples_folder(tmp_path, point)
    draw(RandomGenerator(), 2, folder)
    line = json.loads(next(folder.glob("*.jsonl")).read_text().splitlines()[0])
    assert line["text"] == Words(WORDS).decode([line["ids"]])[0]
    settings: dict[str, Any] = json.loads((folder / "point.json").read_text())
    assert settings["steps"] == 2 and settings["code"] and samples_folder(tmp_path, point) == folder
    assert samples_folder(tmp_path, point | {"steps": 3}) != folder


def test_special_tokens_are_optional_in_texts():
    rows = [[4, 0, 5, 6, 0, 0], [0, 0, 0], [4, 5]]
    assert decode_texts(Words(WORDS), rows) == ["beginning", "", "beginning God"]
    texts = decode_texts(Words(WORDS), rows, keep_special=True)
    assert texts == [f"beginning{EOS_TEXT}God created{EOS_TEXT}{EOS_TEXT}", EOS_TEXT * 3, "beginning God"]


def test_calls_of_a_net_in_its_tables_space_are_counted():
    flow = make("FLM", net=lambda codec: DiT(codec, **(WIDTHS | {"width": 8}), cond_width=8))
    assert flow.sampling_net is not flow.ema_net
    assert [line.nfe for line in draw(flow, 2)] == [3, 3]
