import math
import shutil

import pytest
import torch
from torch.testing import assert_close
from transformers import GPT2LMHeadModel

from tests.helpers.tiny_scorer import WORDS, save_scorer
from tests.helpers.user_errors import refused
from textflow.metrics import EOS_TEXT, TOKEN_WEIGHTINGS, Scorer, summarize
from textflow.metrics.pretrained import load_pretrained, weights_hash

TEXTS = ["in the beginning God", "", "the", "  \n", "and the earth was without form and void and the heaven", "God God"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_scorer(tmp_path_factory.mktemp("scorer"))


@pytest.fixture(scope="module")
def scorer(folder):
    return Scorer(folder)


def by_hand(folder, ids):
    """NLL of all tokens but the first, in float64."""
    logits = GPT2LMHeadModel.from_pretrained(folder).eval().double()(torch.tensor([ids])).logits[0]
    return -logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum().item()


@pytest.mark.parametrize(
    ("text", "ids", "scored_ids"),
    [
        (TEXTS[0], [2, 3, 4, 5], [2, 3, 4, 5, 0]),  # an EOS closes the text
        ("the", [3], [3, 0]),
        (TEXTS[4], None, None),  # cut at 8 tokens, without an EOS
    ],
)
def test_the_nll_of_a_text_is_that_of_the_model(folder, scorer, text, ids, scored_ids):
    scored = scorer.score([text])
    scored_ids = scored_ids or scored.ids[0]
    assert scorer.max_length == 8 and (scored.ids == [ids] or len(scored.ids[0]) == 8)
    assert scored.tokens.tolist() == [len(scored_ids) - 1]
    assert math.isclose(scored.nll[0], by_hand(folder, scored_ids), rel_tol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["<eos>"], ["", "<eos> <eos> <eos>"]])
def test_texts_without_a_scored_token_have_no_perplexity_rather_than_nan(scorer, texts):
    scored = scorer.score(texts)
    assert scored.perplexity is None and scored.sample_perplexities == [] and not scored.nll.isnan().any()
    assert Scorer(scorer.name, max_length=1).score(TEXTS).perplexity is None


def test_a_score_does_not_depend_on_its_batch(folder, scorer):
    together, sizes = scorer.score(TEXTS), []
    for size in (1, 3):
        scored = Scorer(folder, batch_size=size).score(TEXTS, sizes.append)
        assert scored.ids == together.ids
        assert_close(scored.nll, together.nll, rtol=1e-6, atol=1e-6)
    assert sizes == [1, 1, 1, 1, 3, 1]


def test_perplexity_is_over_tokens_in_float64_and_empty_samples_are_counted(scorer):
    scored = scorer.score(TEXTS)
    assert scored.nll.dtype == scored.tokens.dtype == torch.float64
    assert math.isclose(scored.perplexity, math.exp(scored.nll.sum() / scored.tokens.sum()))
    assert len(scored.sample_perplexities) == 4
    scored = scorer.score(TEXTS)
    assert scored.empty == 2 and len(scored.ids) == 4
    assert scored.perplexity == scorer.score([text for text in TEXTS if text.strip()]).perplexity


def test_special_tokens_of_a_text_count_by_the_rule(folder, scorer):
    text = "God <eos> the earth"
    assert scorer.score([text]).tokens.item() == 1 + 2 + 2  # EOS once, then twice each; the closing EOS is the second
    assert Scorer(folder, token_weighting="mdlm").score([text]).tokens.item() == 3
    scored = Scorer(folder, token_weighting="langflow").score(
        [f"God{EOS_TEXT}the earth{EOS_TEXT}", EOS_TEXT, f" {EOS_TEXT} {EOS_TEXT}"]
    )
    assert scored.ids == [[WORDS.index("God"), 0, WORDS.index("the"), WORDS.index("earth"), 0]] and scored.empty == 2
    assert scored.tokens.tolist() == [4]


@pytest.mark.integration
def test_bits_per_character_are_those_of_the_characters_that_scored_tokens_spell(folder):
    texts = ["in the beginning God", "God <eos> earth", TEXTS[4], ""]
    for weighting in TOKEN_WEIGHTINGS:
        scored = Scorer(folder, token_weighting=weighting).score(texts)
        skipped = 0 if weighting in ("ld4lg", "whole") else 1  # the first token, which has no context
        room = 8 if skipped else 7
        spelled = [texts[0], texts[1], " ".join(texts[2].replace("heaven", "<unk>").split()[:room])]
        lengths = [len(text) - len(text.split()[0]) * skipped for text in spelled]
        assert scored.characters.tolist() == lengths, weighting
        bits = scored.text_nll.sum() / math.log(2) / sum(lengths)
        assert math.isclose(summarize(scored)["bits_per_character"].value, bits, rel_tol=1e-12)
        assert scored.truncated == 1 and scored.text_nll[0] == scored.nll[0]


def test_a_token_that_counts_twice_has_its_bits_once_and_a_lost_text_has_no_characters(folder):
    elf, mdlm = (
        Scorer(folder, token_weighting=name).score(["God <eos> the earth", "void"]) for name in ("elf", "mdlm")
    )
    assert elf.nll[0] > elf.text_nll[0] and torch.equal(elf.text_nll, mdlm.text_nll)
    scored = Scorer(folder, token_weighting="mdlm", batch_size=2).score(["God void", "", "void God God"])
    assert scored.dropped == 1 and scored.characters.tolist() == [len(" void"), 0]
    assert "bits_per_character" not in summarize(Scorer(folder).score(["the"])), "an EOS spells nothing"


def test_the_protocol_names_all_that_a_comparison_needs_and_the_hash_follows_the_weights(scorer, folder):
    protocol = scorer.protocol()
    assert protocol["scorer_dtype"] == "float32" and protocol["truncation"] == 8 and protocol["scorer_vocab"] == 14
    assert protocol["scorer_hash"] == scorer.weights_hash and protocol["weights"] == "elf"
    other = Scorer(folder)
    assert weights_hash(other.model) == scorer.weights_hash
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1
    assert other.weights_hash != scorer.weights_hash and len(scorer.weights_hash) == 16


def test_mistakes_and_a_short_context_name_the_remedy(folder, tmp_path):
    refused("known are local, elf, mdlm, langflow, ld4lg, whole", Scorer, folder, token_weighting="duo")
    refused("textflow fit recipes/scorer.yaml", Scorer, tmp_path / "missing")
    refused("float32", Scorer, folder, dtype="double")
    refused("at most 8", Scorer, folder, max_length=9)
    assert Scorer(folder, max_length=1024, allow_shorter_context=True).max_length == 8
    assert Scorer(folder, max_length=5, allow_shorter_context=True).max_length == 5
    refused("at most 8", Scorer, folder, max_length=1024)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


def test_weights_with_code_or_torn_are_not_opened_and_nothing_advises_to(folder, tmp_path):
    scorer = shutil.copytree(folder, tmp_path / "scorer")
    (scorer / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="no scorer at .*header too small; give a Hub name"):
        Scorer(scorer)
    (scorer / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, scorer / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no scorer at .*a pickle with code, which is not run") as e:
        Scorer(scorer)
    assert "weights_only" not in str(e.value) and "\n" not in str(e.value)


def test_a_folder_with_a_gguf_file_is_read_by_it_and_the_error_names_the_extra(tmp_path):
    asked = []

    class Auto:
        @staticmethod
        def from_pretrained(folder, **options):
            asked.append((folder, options))
            raise OSError("cut in half")

    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "model.gguf").write_bytes(b"GGUF")
    refused(r"no scorer at .*: cut in half; a GGUF file needs .*'textflow\[gguf\]'", load_pretrained, Auto, tmp_path)
    assert asked == [(tmp_path / "inner", {"trust_remote_code": False, "gguf_file": "model.gguf"})]
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    refused("holds 2 GGUF files", load_pretrained, Auto, tmp_path)


def test_what_counts_otherwise_is_counted(folder):
    scored = Scorer(folder, token_weighting="elf").score([*TEXTS, "the"])
    assert (scored.empty, scored.unscored, scored.truncated, scored.dropped, scored.nonfinite) == (2, 0, 1, 0, 0)
    assert Scorer(folder, token_weighting="elf").score(["the"]).unscored == 1  # the longest: no EOS is scored after it
    assert Scorer(folder, token_weighting="mdlm", batch_size=4).score([*TEXTS, "the"]).dropped == 3


def test_a_perplexity_that_is_not_finite_is_left_out_and_counted(folder):
    broken, whole = Scorer(folder), Scorer(folder).score(TEXTS[:1])
    with torch.no_grad():
        broken.model.transformer.wte.weight[WORDS.index("void")] = torch.nan
    broken.model.lm_head.weight = torch.nn.Parameter(Scorer(folder).model.lm_head.weight.clone())
    scored = broken.score([TEXTS[0], "without form void and"])
    assert scored.nonfinite == 1 and scored.unscored == 0 and scored.tokens.tolist() == [4, 0]
    assert math.isclose(scored.perplexity, whole.perplexity, rel_tol=1e-6)


def test_features_are_the_last_state_at_the_last_token_whatever_the_batch(folder, scorer):
    rows = [[2, 3, 4], [5], [6, 7, 8, 9, 2]]
    features = scorer.features(rows)
    states = GPT2LMHeadModel.from_pretrained(folder).eval()(torch.tensor([rows[0]]), output_hidden_states=True)
    assert_close(features[0], states.hidden_states[-1][0, -1], rtol=1e-5, atol=1e-6)
    assert_close(Scorer(folder, batch_size=1).features(rows), features, rtol=1e-5, atol=1e-6)
