"""Token weightings count the tokens that the published codes count, on texts whose tokens are known."""

import math
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_scorer import WORDS, save_scorer
from textflow.metrics import TOKEN_WEIGHTINGS, Scorer, TokenWeighting

EOS, LONG = 0, "and the earth was without form and void and the heaven"
TEXTS = ["in the beginning God", "the earth", LONG, "God <eos> the earth <eos> void"]
COUNTED = {
    "local": (4, 2, 7),
    "elf": (4, 2, 7),
    "mdlm": (4, 2, 7),
    "langflow": (3, 1, 7),
    "ld4lg": (4, 2, 7),
    "whole": (4, 2, 7),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scorer(tmp_path_factory.mktemp("scorer"))


def count_tokens(folder: Path, name: str, texts: list[str], size: int = 8) -> list[float]:
    return Scorer(folder, token_weighting=name, batch_size=size).score(texts).tokens.tolist()


@pytest.mark.parametrize("name", TOKEN_WEIGHTINGS)
def test_tokens_that_count(folder: Path, name: str) -> None:
    counted = count_tokens(folder, name, TEXTS)
    assert tuple(counted[:3]) == COUNTED[name]
    inside = {"local": 1 + 2 + 2 + 1, "elf": 1 + 2 + 2 + 1, "mdlm": 4, "langflow": 5, "ld4lg": 6, "whole": 6}[name]
    assert counted[3] == inside  # God [EOS] the earth [EOS] void: ELF weighs 1 2 2 0 1, MDLM 1 1 1 0 1


def test_padding_closes_all_texts_but_the_longest_over_all_batches(folder: Path) -> None:
    assert count_tokens(folder, "elf", TEXTS[:2]) == [3, 2] and count_tokens(folder, "local", TEXTS[:2]) == [4, 2]
    assert count_tokens(folder, "elf", TEXTS[1:2]) == [1] and count_tokens(folder, "elf", ["the"]) == [0]
    assert count_tokens(folder, "elf", TEXTS, 1) == count_tokens(folder, "elf", TEXTS, 8)


def test_an_incomplete_last_batch_is_dropped_with_its_empty_texts(folder: Path) -> None:
    assert count_tokens(folder, "mdlm", [*TEXTS[:2], "", TEXTS[2]], 3) == [4, 2, 0]
    assert count_tokens(folder, "mdlm", TEXTS[:2], 3) == count_tokens(folder, "mdlm", TEXTS[:2], 2) == [3, 2]
    assert count_tokens(folder, "elf", [*TEXTS[:2], "", TEXTS[2]], 3) == [4, 2, 7]


def test_a_beginning_of_text_gives_the_first_token_a_score_and_takes_a_place(folder: Path) -> None:
    scorer = Scorer(folder, token_weighting="ld4lg")
    scored = scorer.score([TEXTS[0], LONG])
    assert [len(ids) for ids in scored.ids] == [4, 7] and scored.ids[0] == [WORDS.index(w) for w in TEXTS[0].split()]
    logits = scorer.model(torch.tensor([[EOS, *scored.ids[0]]])).logits[0].double().log_softmax(-1)
    by_hand = -sum(logits[i, token].item() for i, token in enumerate(scored.ids[0]))
    assert math.isclose(scored.nll[0].item(), by_hand, rel_tol=1e-5)


def test_the_mean_over_samples_is_not_that_of_the_corpus(folder: Path) -> None:
    scored = Scorer(folder, token_weighting="ld4lg").score(TEXTS)
    each = scored.sample_perplexities
    assert scored.perplexity is not None and math.isclose(scored.perplexity, sum(each) / 4)
    assert not math.isclose(scored.perplexity, scored._replace(average_over="corpus").perplexity or 0, rel_tol=1e-4)


def test_the_mask_holds_the_scored_eos() -> None:
    lengths = torch.tensor([3, 5, 5])
    rules = [TokenWeighting(eos_scoring=eos) for eos in ("close", "pad", "none")]
    assert [rule.scored_mask(lengths, 6, 5, 5).sum(1).tolist() for rule in rules] == [[4, 5, 5], [4, 5, 5], [3, 5, 5]]
    assert TokenWeighting(eos_scoring="close").scored_mask(lengths, 6, 5, 8).sum(1).tolist() == [4, 6, 6]


def test_each_weighting_has_its_own_protocol(folder: Path) -> None:
    protocols = {name: Scorer(folder, token_weighting=name).protocol() for name in TOKEN_WEIGHTINGS}
    assert len({str(sorted(one.items(), key=str)) for one in protocols.values()}) == len(TOKEN_WEIGHTINGS)
    assert protocols["mdlm"]["aggregation"].endswith("last batch dropped")
