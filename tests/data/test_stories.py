"""The grammar of stories: every text of it is accepted, nothing else is, and each agreement is checked by itself."""

import random
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import pytest

from tests.helpers.story_grammars import STORY, TINY, UNEVEN
from textflow.data import Stories, Tokenizer, WordLevel
from textflow.data.grammar import Check, Grammar, join_words, split_words
from textflow.data.stories import GRAMMARS


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_samples_are_valid_and_change_with_the_seed_alone(grammar: str) -> None:
    texts = [GRAMMARS[grammar].sample(f"0/{i}") for i in range(300)]
    assert [text for text in texts if not GRAMMARS[grammar].check(text).valid] == []
    assert texts == [document.text for document in Stories(grammar, 300).documents()]  # type: ignore[arg-type]
    assert len(set(texts)) > 250


def test_each_agreement_is_counted_by_itself() -> None:
    grammar = GRAMMARS["tales"]
    assert grammar.check(STORY).valid
    for kind, old, new in (
        ("articles", "an old", "a old"),
        ("pronouns", "She", "He"),
        ("objects", "the coin", "the lamp"),
        ("names", "Mark thanked", "Paul thanked"),
        ("adjectives", "took the old", "took the new"),
        ("places", "from the mill", "from the inn"),
        ("persons", "Mark", "Ruth"),
    ):
        check = grammar.check(STORY.replace(old, new))
        missed = {name: total - check.correct[name] for name, total in check.total.items()}
        broken = {name: count for name, count in missed.items() if count}
        assert check.in_grammar and broken == {kind: 1}, kind
    assert grammar.check("Ruth found.") == Check(False, {}, {})


def test_the_texts_of_a_tiny_grammar_are_the_valid_ones_and_no_others() -> None:
    texts = {text for text, _ in TINY.enumerate()}
    words = sorted({word for text in texts for word in split_words(text)})
    draw = random.Random(0)
    mutants = {mutate(text, words, draw) for text in sorted(texts) for _ in range(30)}
    assert len(mutants - texts) > 500 and len(mutants & texts) > 10
    assert [text for text in texts | mutants if TINY.check(text).valid != (text in texts)] == []


@pytest.mark.parametrize("grammar", [TINY, UNEVEN])
def test_the_bigrams_of_a_tiny_grammar_are_those_of_its_texts(grammar: Grammar) -> None:
    rows = [["", *split_words(text), ""] for text, _ in grammar.enumerate()]
    assert grammar.bigrams == {pair for row in rows for pair in pairwise(row)}
    assert all(grammar.count_bigrams(text) == (len(split_words(text)) + 1,) * 2 for text, _ in grammar.enumerate())


def test_bigrams_count_the_edges_of_a_text() -> None:
    assert TINY.count_bigrams("Anna saw a new hat. She gave the hat to Ida.") == (14, 14)
    assert TINY.count_bigrams("saw a new hat") == (3, 5), "it begins and ends where no text does"
    assert TINY.count_bigrams("") == (0, 1)


def mutate(text: str, words: list[str], draw: random.Random) -> str:
    """The text after one or two edits: a word replaced, inserted, removed, or exchanged with its neighbour."""
    mutant = split_words(text)
    for _ in range(draw.choice([1, 1, 2])):
        at, word = draw.randrange(len(mutant)), draw.choice(words)
        pair = mutant[at : at + 2]
        replaced = [word, *pair[1:]]
        mutant[at : at + 2] = draw.choice([replaced, replaced, [word, *pair], pair[1:], pair[::-1]])
    return join_words(mutant)


def test_stories_resume_at_any_document_and_change_their_key_with_every_option() -> None:
    source = Stories("sentences", 20, seed=3)
    iterator = source.resume()
    first = list(islice(iterator, 7))
    assert first + list(source.resume(iterator.state_dict())) == list(source.documents())
    others = [Stories("stories", 20, 3), Stories("sentences", 21, 3), Stories("sentences", 20, 4)]
    assert len({one.key() for one in [source, *others]}) == 4 and source.count() == 20
    with pytest.raises(ValueError, match="sentences or stories or tales"):
        Stories("novels")  # type: ignore[arg-type]


def test_words_are_tokens_and_rare_ones_are_unknown(tmp_path: Path) -> None:
    texts = [document.text for document in Stories("stories", 400).documents()]
    tokenizer = WordLevel(128)
    with pytest.raises(ValueError, match="call prepare first"):
        tokenizer.encode(texts)
    tokenizer.prepare(lambda: iter(texts), tmp_path / "cache")
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts and max(map(max, ids)) < tokenizer.vocab_size
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").encode(["Ruth saw a zebra."])[0][-2:] == [2, ids[0][-1]]
    common = WordLevel(8)
    common.prepare(lambda: iter(texts), tmp_path / "common")
    counts = Counter(word for text in texts for word in split_words(text))
    assert common.words == [word for word, _ in counts.most_common(5)]
    with pytest.raises(ValueError, match="give more"):
        WordLevel(3)
