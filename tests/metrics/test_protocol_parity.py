"""Whole scorers, given the recorded likelihoods of a language model, give the published perplexities and entropies."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics.text import Perplexity

from tests.helpers.recordings import recorded
from tests.helpers.tiny_scorer import save_scorer
from textflow.metrics import Scorer, summarize


@pytest.fixture(scope="module")
def data() -> dict[str, Tensor]:
    return recorded("metrics")[0]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return recorded("metrics")[1]["config"]


class RecordedTokenizer:
    """A tokenizer whose texts are the numbers of recorded rows."""

    def __init__(self, data: dict[str, Tensor]) -> None:
        self.ids, self.mask, self.eos = data["ids"], data["attention_mask"].bool(), int(data["eos"])

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self.ids[int(text)][self.mask[int(text)]].tolist() for text in texts]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return ["" for _ in ids]


def recorded_scorer(folder: Path, data: dict[str, Tensor], weighting: str, batch_size: int = 8) -> Scorer:
    """A scorer with the recorded logits."""

    def model(input_ids: Tensor, use_cache: bool) -> Any:
        width = input_ids.shape[1]
        same = (data["ids"][None, :, :width] == input_ids[:, None]).all(-1)  # [B, rows]
        assert (same.sum(1) == 1).all()
        return SimpleNamespace(logits=data["logits"][same.int().argmax(1), :width])

    scorer = Scorer(folder, token_weighting=weighting, batch_size=batch_size)
    scorer.model, scorer.tokenizer, scorer.max_length = model, RecordedTokenizer(data), data["ids"].shape[1]
    return scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield save_scorer(tmp_path_factory.mktemp("scorer"))


def texts(data: dict[str, Tensor]) -> list[str]:
    return [str(i) for i in range(len(data["ids"]))]


@pytest.mark.parity
def test_elf(folder: Path, data: dict[str, Tensor]) -> None:
    scored = recorded_scorer(folder, data, "elf").score(texts(data))
    assert math.isclose(scored.perplexity or 0, data["elf.ppl"], rel_tol=1e-6)
    each = zip(scored.sample_perplexities, data["elf.per_sample_ppl"].tolist(), strict=True)
    assert all(math.isclose(mine, theirs, rel_tol=1e-6) for mine, theirs in each)
    assert math.isclose(summarize(scored)["entropy"].value, data["elf.mean_entropy"], rel_tol=1e-6)


@pytest.mark.parity
def test_mdlm_duo_and_flm(folder: Path, data: dict[str, Tensor], config: dict[str, Any]) -> None:
    scored = recorded_scorer(folder, data, "mdlm", batch_size=config["bs"]).score(texts(data))
    assert math.isclose(scored.perplexity or 0, data["mdlm.ppl"], rel_tol=1e-6)
    assert scored.dropped == config["B"] % config["bs"]
    found = summarize(scored, data["gen_ids"].tolist(), "generator")
    assert math.isclose(found["entropy"].value, data["mdlm.entropy"], rel_tol=1e-6)


@pytest.mark.parity
def test_langflow_is_the_plain_perplexity_of_torchmetrics(folder: Path, data: dict[str, Tensor]) -> None:
    scored = recorded_scorer(folder, data, "langflow").score(texts(data))
    target = data["ids"].masked_fill(data["attention_mask"] == 0, -100)[:, 1:]
    plain = Perplexity(ignore_index=-100)(data["logits"][:, :-1].double(), target)
    assert math.isclose(scored.perplexity or 0, plain, rel_tol=1e-6)


def test_ld4lg_is_the_mean_over_the_perplexities_of_texts_after_their_beginning(folder: Path) -> None:
    texts = ["in the beginning", "God", "the heaven and the earth was"]
    scored = Scorer(folder, token_weighting="ld4lg").score(texts)
    made, each = Scorer(folder, token_weighting="ld4lg"), []
    for ids in made.tokenizer.encode(texts):
        row = torch.tensor([[made.tokenizer.eos, *ids]])
        each.append(float(made.model(input_ids=row, labels=row).loss.detach().exp()))  # the loss of Hugging Face
    assert math.isclose(scored.perplexity or 0, sum(each) / 3, rel_tol=1e-6)
