import json
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import textflow.eval.record
from tests.helpers.tiny_scorer import WORDS, save_judge
from tests.helpers.word_tokenizer import Words
from textflow.eval.measure import evaluate, measure, reference_records, shuffle_words
from textflow.eval.record import METRIC_KEYS, part_fields, write_record
from textflow.eval.samples import count_network_rows
from textflow.metrics import Scorer
from textflow.noise import sample_seeds

FIRST = sample_seeds(7, 0, 1)[0]
REAL = ["in the beginning God created the heaven", "and the earth was without form", "the earth the earth the earth"]


@dataclass(frozen=True)
class Law:
    mean: float = -1.0


@dataclass(frozen=True)
class Walk:
    gamma: float = 1.5
    law: Law = Law()
    times: tuple[float, ...] = (0.0, 1.0)


class Net(nn.Module):
    def forward(self, z, t, given=None):
        return z


class Even:
    def grid(self, steps):
        return [i / steps for i in range(steps + 1)]


class Echo:
    """Says nothing first, then the same words: one more at each step."""

    def __init__(self):
        self.net, self.ema_net, self.sampler = Net(), Net(), Walk()
        self.sampling_schedule, self.self_cond_guidance = Even(), 2.0
        self.tokenizer = Words(WORDS)

    def sample(self, seeds, steps, sampler=None):
        for _ in range(steps + 1):  # one pass decodes
            self.ema_net(torch.zeros(len(seeds), 3), 0.5)
        said = [self.tokenizer.eos if seed == FIRST or i > steps else i + 2 for seed in seeds for i in range(6)]
        return torch.tensor(said).view(len(seeds), 6)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Scorer(save_judge(tmp_path_factory.mktemp("judge")))


def test_a_perplexity_never_comes_without_its_company(judge):
    record = measure(REAL, judge)
    company = [
        "entropy",
        "seq_rep_4",
        "human_repetition_share",
        "distinct_1",
        "distinct_2",
        "diversity",
        "n",
        "empty",
        "tokens",
    ]
    protocol = ["scorer", "scorer_hash", "scorer_dtype", "scorer_tokenizer", "truncation", "weights", "aggregation"]
    assert all(record[key] is not None for key in ["perplexity", *company, *protocol, "textflow"])
    assert record["n"] == 3 and record["empty"] == 0 and record["tokens"] == 7 + 6 + 6


def test_samples_without_tokens_give_a_record_without_nan(judge):
    record = measure(["", " "], judge)
    assert record["perplexity"] is None and record["empty"] == record["n"] == 2
    assert not any(isinstance(value, float) and math.isnan(value) for value in record.values())


def test_shuffling_keeps_the_words_of_each_text_and_depends_on_the_seed():
    assert [sorted(text.split()) for text in shuffle_words(REAL, 0)] == [sorted(text.split()) for text in REAL]
    assert shuffle_words(REAL, 0) == shuffle_words(REAL, 0) != shuffle_words(REAL, 1)
    assert shuffle_words(REAL[:1], 0)[0] != REAL[0] and shuffle_words(["", "one"], 0) == ["", "one"]


def test_references_are_real_text_and_the_same_words_shuffled(judge):
    real, mixed = reference_records(REAL, judge, 3, facts={"checkpoint": "here"})
    assert (real["text"], mixed["text"]) == ("real", "shuffled") and real["checkpoint"] == mixed["checkpoint"] == "here"
    assert real["perplexity"] == measure(REAL, judge)["perplexity"] != mixed["perplexity"]
    assert math.isclose(real["entropy"], mixed["entropy"]) and real["distinct_1"] == mixed["distinct_1"]


def test_a_sampler_is_recorded_with_all_its_fields():
    assert part_fields(Walk()) == {
        "class": "Walk",
        "gamma": 1.5,
        "law": {"class": "Law", "mean": -1.0},
        "times": [0.0, 1.0],
    }
    assert part_fields(None) is None and part_fields(Net())["class"] == "Net"


def test_one_record_for_each_sampler_and_number_of_steps(judge):
    records = list(evaluate(Echo(), judge, [1, 4], num_samples=5, seed=7, samplers=[None, Walk(0.0)], batch_size=2))
    assert [(r["sampler"]["gamma"], r["steps"]) for r in records] == [(1.5, 1), (1.5, 4), (0.0, 1), (0.0, 4)]
    assert all(r["seed"] == 7 and r["n"] == 5 and r["empty"] == 1 and r["sampler"]["class"] == "Walk" for r in records)
    assert records[1]["time_grid"] == {"class": "Even", "times": [0.0, 0.25, 0.5, 0.75, 1.0]}
    assert records[1]["self_cond_guidance"] == 2.0 and records[1]["entropy"] > records[0]["entropy"]


def test_passes_are_counted_a_sample_also_in_an_incomplete_batch(judge):
    assert [record["nfe"] for record in evaluate(Echo(), judge, [1, 4], num_samples=5, batch_size=2)] == [2, 5]


def test_counting_leaves_no_hook_behind_even_after_an_error():
    net = Net()
    with pytest.raises(KeyError), count_network_rows(net) as rows:
        net(z=torch.zeros(3, 1), t=0.0)
        raise KeyError
    net(torch.zeros(2, 1), 0.0)
    assert rows == [3]


def test_records_are_written_as_strict_json_and_another_protocol_has_another_file(judge, tmp_path):
    record = next(evaluate(Echo(), judge, [2], num_samples=3, seed=7))
    path = write_record(record, tmp_path / "eval")
    assert json.loads(path.read_text()) == record and path.name.startswith("generated-Walk-2-")
    assert write_record(record | {"seconds": 9.0}, tmp_path / "eval") == path
    assert write_record(record | {"seed": 1}, tmp_path / "eval") != path
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(record | {"entropy": math.nan}, tmp_path / "eval")


def test_all_numbers_have_intervals_and_the_cost_too(judge):
    record = next(evaluate(Echo(), judge, [3], num_samples=6, seed=7, batch_size=4))
    measured = [key for key in (*METRIC_KEYS, "nfe", "seconds") if record[key] is not None]
    assert set(measured) == set(record["intervals"]) and record["intervals"]["nfe"] == [4, 4]
    assert {"entropy_scorer", "entropy_generator", "nll_minus_entropy", "perplexity"} <= set(measured)
    assert record["nll_minus_entropy"] < record["nll"] and record["entropy"] == record["entropy_scorer"]


def test_entropy_is_over_the_ids_that_are_asked_for(judge):
    record = next(evaluate(Echo(), judge, [3], num_samples=6, seed=7, entropy_ids="generator"))
    assert record["entropy"] == record["entropy_generator"] != record["entropy_scorer"]
    assert record["entropy_ids"] == "generator"


def test_samples_of_no_token_give_no_number_but_are_counted(judge):
    silent = Echo()
    silent.sample = lambda seeds, steps, sampler=None: torch.zeros(len(seeds), 6, dtype=torch.long)
    record = next(evaluate(silent, judge, [2], num_samples=3))
    assert (
        record["perplexity"] is record["entropy"] is record["human_repetition_share"] is None
        and record["empty"] == record["n"] == 3
    )
    assert record["entropy_generator"] == 0 and "NaN" not in json.dumps(record)


def test_a_record_says_what_the_docstring_names(judge):
    record = next(evaluate(Echo(), judge, [2], num_samples=3, seed=7))
    assert all(key in textflow.eval.record.__doc__ or key in METRIC_KEYS for key in record)
