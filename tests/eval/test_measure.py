import json
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import textflow.eval.record
from tests.helpers.systems import make
from tests.helpers.tiny_scorer import WORDS
from tests.helpers.word_tokenizer import Words
from textflow.eval.measure import eval_point, evaluate, measure, reference_records, sample_folder, shuffle_words
from textflow.eval.record import METRIC_KEYS, part_fields, write_record
from textflow.eval.samples import count_network_rows
from textflow.noise import sample_seeds
from textflow.samplers import Grouped
from textflow.schedules import Gumbel

FIRST = sample_seeds(7, 0, 1)[0]
REAL = ["in the beginning God created the heaven", "and the earth was without form", "the earth the earth the earth"]


@dataclass(frozen=True)
class TimeLaw:
    mean: float = -1.0


@dataclass(frozen=True)
class WalkSampler:
    gamma: float = 1.5
    law: TimeLaw = TimeLaw()
    times: tuple[float, ...] = (0.0, 1.0)


class Net(nn.Module):
    def forward(self, z, t, given=None):
        return z


class EvenSchedule:
    def grid(self, steps):
        return [i / steps for i in range(steps + 1)]


class RepeatGenerator:
    """Generator whose first sample is empty; the others repeat the same words, one more at each step."""

    def __init__(self):
        self.net, self.ema_net, self.sampler = Net(), Net(), WalkSampler()
        self.sampling_schedule, self.self_cond_guidance = EvenSchedule(), 2.0
        self.tokenizer = Words(WORDS)

    def sample_ids(self, seeds, steps, sampler=None):
        for _ in range(steps + 1):  # one pass decodes
            self.ema_net(torch.zeros(len(seeds), 3), 0.5)
        ids = [self.tokenizer.eos if seed == FIRST or i > steps else i + 2 for seed in seeds for i in range(6)]
        return torch.tensor(ids).view(len(seeds), 6)


def test_texts_are_recorded_with_all_metrics_and_the_protocol_and_empty_ones_without_nan(scorer):
    record = measure(REAL, scorer)
    metrics = ["perplexity", "entropy", "seq_rep_4", "human_repetition_share", "distinct_1", "distinct_2", "diversity"]
    protocol = ["scorer", "scorer_hash", "scorer_dtype", "scorer_tokenizer", "truncation", "weights", "aggregation"]
    assert all(record[key] is not None for key in [*metrics, *protocol, "n", "empty", "tokens", "textflow"])
    assert record["n"] == 3 and record["empty"] == 0 and record["tokens"] == 7 + 6 + 6
    record = measure(["", " "], scorer)
    assert record["perplexity"] is None and record["empty"] == record["n"] == 2
    assert not any(isinstance(value, float) and math.isnan(value) for value in record.values())


def test_shuffling_preserves_the_words_of_each_text(scorer):
    assert [sorted(text.split()) for text in shuffle_words(REAL, 0)] == [sorted(text.split()) for text in REAL]
    assert shuffle_words(REAL, 0) == shuffle_words(REAL, 0) != shuffle_words(REAL, 1)
    assert shuffle_words(REAL[:1], 0)[0] != REAL[0] and shuffle_words(["", "one"], 0) == ["", "one"]
    real, shuffled = reference_records(REAL, scorer, 3, facts={"checkpoint": "here"})
    assert (real["text"], shuffled["text"]) == ("real", "shuffled")
    assert real["checkpoint"] == shuffled["checkpoint"] == "here"
    assert real["perplexity"] == measure(REAL, scorer)["perplexity"] != shuffled["perplexity"]
    assert math.isclose(real["entropy"], shuffled["entropy"]) and real["distinct_1"] == shuffled["distinct_1"]


def test_a_sampler_is_recorded_with_all_its_fields_and_counting_removes_its_hooks():
    law = {"class": "TimeLaw", "mean": -1.0}
    assert part_fields(WalkSampler()) == {"class": "WalkSampler", "gamma": 1.5, "law": law, "times": [0.0, 1.0]}
    assert part_fields(None) is None and part_fields(Net())["class"] == "Net"
    assert (part_fields(Gumbel(1.5)) or {})["loc"] == 1.5, "a trained schedule holds tensors"
    net = Net()
    with pytest.raises(KeyError), count_network_rows(net) as rows:
        net(z=torch.zeros(3, 1), t=0.0)
        raise KeyError
    net(torch.zeros(2, 1), 0.0)
    assert rows == [3]


def test_there_is_one_record_for_each_sampler_and_number_of_steps(scorer):
    options = {"num_samples": 5, "seed": 7, "samplers": [None, WalkSampler(0.0)], "batch_size": 2}
    records = list(evaluate(RepeatGenerator(), scorer, [1, 4], **options))
    assert [(r["sampler"]["gamma"], r["steps"]) for r in records] == [(1.5, 1), (1.5, 4), (0.0, 1), (0.0, 4)]
    assert all((r["seed"], r["n"], r["empty"], r["sampler"]["class"]) == (7, 5, 1, "WalkSampler") for r in records)
    assert [record["nfe"] for record in records] == [2, 5, 2, 5]  # in the incomplete batch too
    assert "order" not in records[0], "all at once"
    assert records[1]["time_grid"] == {"class": "EvenSchedule", "times": [0.0, 0.25, 0.5, 0.75, 1.0]}
    assert records[1]["self_cond_guidance"] == 2.0 and records[1]["entropy"] > records[0]["entropy"]


def test_the_times_of_a_record_end_where_the_path_does() -> None:
    model = make("LangFlow")
    times = eval_point(model, 4, 0)["time_grid"]["times"]
    assert len(times) == 5 and times[0] >= model.path.t_min and times[-1] == model.path.t_max < 100


def test_records_are_strict_json_with_one_file_for_each_protocol(scorer, tmp_path):
    record = next(evaluate(RepeatGenerator(), scorer, [2], num_samples=3, seed=7))
    path = write_record(record, tmp_path / "eval")
    assert json.loads(path.read_text()) == record and path.name.startswith("generated-WalkSampler-2-")
    assert write_record(record | {"seconds": 9.0}, tmp_path / "eval") == path
    assert write_record(record | {"seed": 1}, tmp_path / "eval") != path
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(record | {"entropy": math.nan}, tmp_path / "eval")
    undocumented = [key for key in record if key not in METRIC_KEYS and key not in str(textflow.eval.record.__doc__)]
    assert undocumented == []


def test_metrics_and_costs_have_intervals_and_entropy_uses_the_requested_ids(scorer):
    record = next(evaluate(RepeatGenerator(), scorer, [3], num_samples=6, seed=7, batch_size=4))
    defined = [key for key in (*METRIC_KEYS, "nfe", "seconds") if record[key] is not None]
    assert set(defined) == set(record["intervals"]) and record["intervals"]["nfe"] == [4, 4]
    assert {"entropy_scorer", "entropy_generator", "nll_minus_entropy", "perplexity"} <= set(defined)
    assert record["nll_minus_entropy"] < record["nll"] and record["entropy"] == record["entropy_scorer"]
    record = next(evaluate(RepeatGenerator(), scorer, [3], num_samples=6, seed=7, entropy_ids="generator"))
    assert record["entropy"] == record["entropy_generator"] != record["entropy_scorer"]
    assert record["entropy_ids"] == "generator"


def test_samples_without_tokens_have_undefined_metrics_and_are_counted(scorer):
    empty = RepeatGenerator()
    empty.sample_ids = lambda seeds, steps, sampler=None: torch.zeros(len(seeds), 6, dtype=torch.long)
    record = next(evaluate(empty, scorer, [2], num_samples=3))
    assert record["perplexity"] is record["entropy"] is record["human_repetition_share"] is None
    assert record["empty"] == record["n"] == 3
    assert record["entropy_generator"] == 0 and "NaN" not in json.dumps(record)


def test_an_order_is_recorded_and_gives_its_samples_another_folder(tmp_path):
    generator = RepeatGenerator()
    plain = eval_point(generator, 1, 0)
    generator.order = Grouped((1, 0))
    grouped = eval_point(generator, 1, 0)
    assert grouped == plain | {"order": {"class": "Grouped", "groups": [1, 0]}}
    folders = [sample_folder(tmp_path, {}, generator, point) for point in (plain, grouped)]
    assert folders[0] != folders[1]
