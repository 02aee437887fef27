import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close
from torchmetrics.text import Perplexity

from textflow.metrics import (
    COUNTINGS,
    CorpusPerplexity,
    corpus_perplexity,
    elf_weights,
    mdlm_weights,
    mean_entropy,
    sample_perplexity,
    token_nll,
)

RECORDED = Path(__file__).parents[1] / "data" / "metrics_tiny.safetensors"


@pytest.fixture(scope="module")
def recorded():
    with safe_open(RECORDED, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def test_token_nll_equals_the_recorded_one(recorded):
    nll = token_nll(recorded["logits"], recorded["ids"])
    assert nll.dtype == torch.float64
    assert_close(nll.float(), recorded["nll"], rtol=1e-6, atol=1e-6)


def test_elf_weights_and_perplexities_equal_the_recorded_ones(recorded):
    nll, weights = token_nll(recorded["logits"], recorded["ids"]), elf_weights(recorded["ids"], int(recorded["eos"]))
    assert torch.equal(weights.int(), recorded["elf.valid"])
    assert_close(corpus_perplexity(nll, weights), recorded["elf.ppl"], rtol=1e-6, atol=0)
    assert_close(sample_perplexity(nll, weights), recorded["elf.per_sample_ppl"], rtol=1e-6, atol=0)


def test_mdlm_weights_and_perplexity_equal_the_recorded_ones(recorded):
    nll, weights = token_nll(recorded["logits"], recorded["ids"]), mdlm_weights(recorded["ids"], int(recorded["eos"]))
    assert torch.equal(weights.float(), recorded["mdlm.valid"])
    assert_close(corpus_perplexity(nll, weights, batch=3).float(), recorded["mdlm.ppl"], rtol=1e-6, atol=0)
    assert not math.isclose(corpus_perplexity(nll, weights), float(recorded["mdlm.ppl"]), rel_tol=1e-3)


@pytest.mark.parametrize("name", ["elf", "mdlm"])
def test_a_named_counting_gives_the_recorded_weights_from_the_lengths_alone(recorded, name):
    ids, lengths, eos = recorded["ids"], recorded["attention_mask"].sum(1), int(recorded["eos"])
    rule = COUNTINGS[name]
    weights = rule.weights(ids, rule.valid(lengths, 14, int(lengths.max()), 14), eos)
    assert torch.equal(weights.int(), recorded[f"{name}.valid"].int())
    kept = rule.counted(7, 3)
    assert kept == {"elf": 7, "mdlm": 6}[name]
    found = corpus_perplexity(token_nll(recorded["logits"], ids)[:kept], weights[:kept])
    assert_close(found.float(), recorded[f"{name}.ppl"].float(), rtol=1e-6, atol=0)


def test_entropies_equal_the_recorded_ones(recorded):
    rows = zip(recorded["ids"], recorded["attention_mask"].bool(), strict=True)
    assert math.isclose(
        mean_entropy([ids[mask].tolist() for ids, mask in rows]), recorded["elf.mean_entropy"], rel_tol=1e-6
    )
    assert math.isclose(mean_entropy(recorded["gen_ids"].tolist()), recorded["mdlm.entropy"], rel_tol=1e-6)


def test_uniform_logits_give_the_vocabulary_as_perplexity():
    nll = token_nll(torch.zeros(2, 5, 7), torch.randint(7, (2, 5)))
    assert_close(corpus_perplexity(nll, torch.ones(2, 4)), torch.tensor(7.0, dtype=torch.float64), rtol=1e-6, atol=0)


def test_corpus_perplexity_equals_that_of_torchmetrics():
    logits, ids = torch.randn(3, 6, 11), torch.randint(11, (3, 6))
    other = Perplexity()(logits[:, :-1], ids[:, 1:])
    assert_close(corpus_perplexity(token_nll(logits, ids), torch.ones(3, 5)).float(), other)


def test_corpus_perplexity_weighs_tokens_and_not_samples():
    nll, weights = torch.tensor([[math.log(2.0)] * 3, [math.log(16.0), 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert math.isclose(corpus_perplexity(nll, weights), 2 ** ((3 + 4) / 4), rel_tol=1e-6)
    assert_close(sample_perplexity(nll, weights), torch.tensor([2.0, 16.0], dtype=torch.float64), rtol=1e-6, atol=0)


def test_an_infinite_nll_without_weight_does_not_count():
    nll, weights = torch.tensor([[1.0, torch.inf]]), torch.tensor([[1, 0]])
    assert math.isclose(corpus_perplexity(nll, weights), math.e, rel_tol=1e-6)


def test_no_scored_token_is_an_error_and_a_row_without_one_is_left_out():
    with pytest.raises(ValueError, match="found none"):
        corpus_perplexity(torch.ones(2, 3), torch.zeros(2, 3))
    assert len(sample_perplexity(torch.ones(2, 3), torch.tensor([[0, 0, 0], [1, 1, 1]]))) == 1


def test_all_eos_counts_nothing_under_both_rules():
    ids = torch.full((1, 5), 9)
    assert elf_weights(ids, 9).sum() == 0 and mdlm_weights(ids, 9).sum() == 0


def test_the_metric_adds_batches_up_to_the_corpus():
    metric, nll, weights = CorpusPerplexity(), torch.rand(4, 5), torch.randint(0, 3, (4, 5))
    assert math.isinf(metric.compute())
    metric.update(nll[:1], weights[:1])
    metric.update(nll[1:], weights[1:])
    assert_close(metric.compute(), corpus_perplexity(nll, weights))
