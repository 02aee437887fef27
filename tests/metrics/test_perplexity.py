import math

import pytest
import torch
from torch.testing import assert_close
from torchmetrics.text import Perplexity

from tests.helpers.recordings import recorded
from textflow.metrics import (
    TOKEN_WEIGHTINGS,
    corpus_perplexity,
    elf_weights,
    mdlm_weights,
    mean_entropy,
    sample_perplexity,
    token_nll,
)


@pytest.fixture(scope="module")
def data():
    return recorded("metrics")[0]


@pytest.fixture(scope="module")
def config():
    return recorded("metrics")[1]["config"]


@pytest.mark.parity
def test_token_nll_and_entropies_equal_the_recorded_ones(data):
    nll = token_nll(data["logits"], data["ids"])
    assert nll.dtype == torch.float64
    assert_close(nll.float(), data["nll"], rtol=1e-6, atol=1e-6)
    rows = zip(data["ids"], data["attention_mask"].bool(), strict=True)
    entropy = mean_entropy([ids[mask].tolist() for ids, mask in rows])
    assert math.isclose(entropy, data["elf.mean_entropy"], rel_tol=1e-6)
    assert math.isclose(mean_entropy(data["gen_ids"].tolist()), data["mdlm.entropy"], rel_tol=1e-6)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["elf", "mdlm"])
def test_a_named_weighting_gives_the_recorded_weights_from_the_lengths_alone(data, config, name):
    ids, lengths, eos = data["ids"], data["attention_mask"].sum(1), int(data["eos"])
    rule = TOKEN_WEIGHTINGS[name]
    weights = rule.weights(ids, rule.scored_mask(lengths, config["L"], int(lengths.max()), config["L"]), eos)
    assert torch.equal(weights.int(), data[f"{name}.valid"].int())
    rows, size = config["B"], config["bs"]
    count, nll = rule.num_counted(rows, size), token_nll(data["logits"], ids)
    assert count == {"elf": rows, "mdlm": rows // size * size}[name]
    perplexity = corpus_perplexity(nll, weights, batch_size=size if name == "mdlm" else 1)
    assert_close(perplexity.float(), data[f"{name}.ppl"].float(), rtol=1e-6, atol=0)
    if name == "elf":
        assert_close(sample_perplexity(nll, weights), data["elf.per_sample_ppl"], rtol=1e-6, atol=0)
    elif rows % size:
        assert not math.isclose(corpus_perplexity(nll, weights), float(data["mdlm.ppl"]), rel_tol=1e-3)


def test_corpus_perplexity_equals_that_of_torchmetrics():
    logits, ids = torch.randn(3, 6, 11), torch.randint(11, (3, 6))
    other = Perplexity()(logits[:, :-1], ids[:, 1:])
    assert_close(corpus_perplexity(token_nll(logits, ids), torch.ones(3, 5)).float(), other)


def test_corpus_perplexity_weighs_tokens_and_ignores_those_without_weight():
    nll, weights = torch.tensor([[math.log(2.0)] * 3, [math.log(16.0), 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert math.isclose(corpus_perplexity(nll, weights), 2 ** ((3 + 4) / 4), rel_tol=1e-6)
    assert_close(sample_perplexity(nll, weights), torch.tensor([2.0, 16.0], dtype=torch.float64), rtol=1e-6, atol=0)
    nll, weights = torch.tensor([[1.0, torch.inf]]), torch.tensor([[1, 0]])
    assert math.isclose(corpus_perplexity(nll, weights), math.e, rel_tol=1e-6)
    ids = torch.full((1, 5), 9)
    assert elf_weights(ids, 9).sum() == 0 and mdlm_weights(ids, 9).sum() == 0


def test_no_scored_token_is_an_error_and_a_row_without_one_is_left_out():
    with pytest.raises(ValueError, match="found none"):
        corpus_perplexity(torch.ones(2, 3), torch.zeros(2, 3))
    assert len(sample_perplexity(torch.ones(2, 3), torch.tensor([[0, 0, 0], [1, 1, 1]]))) == 1
