import math
import shutil

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2LMHeadModel

from tests.helpers.tiny_scorer import WORDS, save_judge
from textflow.metrics import KEPT, Scorer

TEXTS = ["in the beginning God", "", "the", "  \n", "and the earth was without form and void and the heaven", "God God"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder):
    return Scorer(folder)


def by_hand(folder, ids):
    """NLL of all tokens but the first, in float64."""
    logits = GPT2LMHeadModel.from_pretrained(folder).eval().double()(torch.tensor([ids])).logits[0]
    return -logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum().item()


def test_a_text_is_scored_with_the_eos_that_closes_it(folder, judge):
    scored = judge.score(["in the beginning God"])
    assert scored.ids == [[2, 3, 4, 5]] and scored.tokens.tolist() == [4]
    assert math.isclose(scored.nll[0], by_hand(folder, [2, 3, 4, 5, 0]), rel_tol=1e-5)


def test_a_long_text_is_cut_and_has_no_eos(folder, judge):
    scored = judge.score([TEXTS[4]])
    assert judge.length == 8 and len(scored.ids[0]) == 8 and scored.tokens.tolist() == [7]
    assert math.isclose(scored.nll[0], by_hand(folder, scored.ids[0]), rel_tol=1e-5)


def test_empty_samples_are_skipped_and_counted(judge):
    scored = judge.score(TEXTS)
    assert scored.empty == 2 and len(scored.ids) == 4
    assert scored.perplexity == judge.score([text for text in TEXTS if text.strip()]).perplexity


def test_a_one_token_sample_is_scored_by_its_eos(folder, judge):
    scored = judge.score(["the"])
    assert scored.tokens.tolist() == [1] and math.isclose(scored.nll[0], by_hand(folder, [3, 0]), rel_tol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["<eos>"], ["", "<eos> <eos> <eos>"]])
def test_texts_without_a_scored_token_have_no_perplexity_rather_than_nan(judge, texts):
    scored = judge.score(texts)
    assert scored.perplexity is None and scored.sample_perplexities == [] and not scored.nll.isnan().any()


def test_one_token_of_room_scores_nothing(folder):
    scored = Scorer(folder, length=1).score(TEXTS)
    assert scored.perplexity is None and len(scored.ids) == 4


def test_a_score_does_not_depend_on_its_batch(folder, judge):
    together = judge.score(TEXTS)
    for size in (1, 3):
        scored = Scorer(folder, batch_size=size).score(TEXTS)
        assert scored.ids == together.ids
        assert_close(scored.nll, together.nll, rtol=1e-6, atol=1e-6)


def test_perplexity_is_over_tokens_and_sums_are_float64(judge):
    scored = judge.score(TEXTS)
    assert scored.nll.dtype == scored.tokens.dtype == torch.float64
    assert math.isclose(scored.perplexity, math.exp(scored.nll.sum() / scored.tokens.sum()))
    assert len(scored.sample_perplexities) == 4


def test_an_eos_inside_a_text_counts_by_the_rule(folder, judge):
    text = "God <eos> the earth"
    assert judge.score([text]).tokens.item() == 1 + 2 + 2  # EOS once, then twice each; the closing EOS is the second
    assert Scorer(folder, counting="mdlm").score([text]).tokens.item() == 3


def test_the_hash_follows_the_weights(folder, judge):
    other = Scorer(folder)
    assert other.hash == judge.hash
    other = Scorer(folder)
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1
    assert other.hash != judge.hash and len(judge.hash) == 16


def test_the_protocol_names_all_that_a_comparison_needs(judge):
    protocol = judge.protocol()
    assert protocol["scorer_dtype"] == "float32" and protocol["truncation"] == 8 and protocol["scorer_vocab"] == 14
    assert protocol["scorer_hash"] == judge.hash and protocol["weights"] == "elf"


def test_mistakes_name_the_way_out(folder, tmp_path):
    with pytest.raises(ValueError, match="known are local, elf, mdlm"):
        Scorer(folder, counting="duo")
    with pytest.raises(ValueError, match="textflow fit recipes/scorer.yaml"):
        Scorer(tmp_path / "missing")
    with pytest.raises(ValueError, match="float32"):
        Scorer(folder, dtype="double")
    with pytest.raises(ValueError, match="at most 8"):
        Scorer(folder, length=9)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_weights_with_code_or_torn_are_not_opened_and_nothing_advises_to(folder, tmp_path):
    judge = shutil.copytree(folder, tmp_path / "judge")
    (judge / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="no scorer at .*header too small; give a Hub name"):
        Scorer(judge)
    (judge / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, judge / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no scorer at .*a pickle with code, which is not run") as e:
        Scorer(judge)
    assert "weights_only" not in str(e.value) and "\n" not in str(e.value)


def test_what_counts_otherwise_is_counted(folder):
    scored = Scorer(folder, counting="elf").score([*TEXTS, "the"])
    assert (scored.empty, scored.unscored, scored.cut, scored.dropped, scored.broken) == (2, 0, 1, 0, 0)
    assert Scorer(folder, counting="elf").score(["the"]).unscored == 1  # the longest: no EOS is scored after it
    assert Scorer(folder, counting="mdlm", batch_size=4).score([*TEXTS, "the"]).dropped == 3


def test_a_perplexity_that_is_not_finite_is_left_out_and_counted(folder):
    broken, whole = Scorer(folder), Scorer(folder).score(TEXTS[:1])
    with torch.no_grad():
        broken.model.transformer.wte.weight[WORDS.index("void")] = torch.nan
    broken.model.lm_head.weight = torch.nn.Parameter(Scorer(folder).model.lm_head.weight.clone())
    scored = broken.score([TEXTS[0], "without form void and"])
    assert scored.broken == 1 and scored.unscored == 0 and scored.tokens.tolist() == [4, 0]
    assert math.isclose(scored.perplexity, whole.perplexity, rel_tol=1e-6)


def test_a_scorer_that_reads_less_than_the_protocol_wants_is_taken_where_asked(folder):
    assert Scorer(folder, length=1024, shorter=True).length == 8
    assert Scorer(folder, length=5, shorter=True).length == 5
    with pytest.raises(ValueError, match="at most 8"):
        Scorer(folder, length=1024)


def test_kept_special_tokens_are_the_scorers_eos(folder):
    judge = Scorer(folder, counting="langflow")
    scored = judge.score([f"God{KEPT}the earth{KEPT}", KEPT, f" {KEPT} {KEPT}"])
    assert scored.ids == [[WORDS.index("God"), 0, WORDS.index("the"), WORDS.index("earth"), 0]] and scored.empty == 2
    assert scored.tokens.tolist() == [4]


def test_features_are_the_last_state_at_the_last_token_whatever_the_batch(folder, judge):
    rows = [[2, 3, 4], [5], [6, 7, 8, 9, 2]]
    found = judge.features(rows)
    states = GPT2LMHeadModel.from_pretrained(folder).eval()(torch.tensor([rows[0]]), output_hidden_states=True)
    assert_close(found[0], states.hidden_states[-1][0, -1], rtol=1e-5, atol=1e-6)
    assert_close(Scorer(folder, batch_size=1).features(rows), found, rtol=1e-5, atol=1e-6)


def test_each_batch_is_told(judge):
    told = []
    Scorer(judge.name, batch_size=3).score(TEXTS, told.append)
    assert told == [3, 1]
