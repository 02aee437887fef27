"""Grammar of stories with a known law: who is meant, which thing, and where, is said once and meant again.

A story fills an order, a row of literal words and fields. `{noun}` stands for a word of its class and is the same word
wherever it stands in the story; `{hero.he}` is a form that depends on it. Every text has one derivation, so likelihood
and entropy are exact (`textflow.oracle.stories`), and each agreement is checked by itself [ours].
"""

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import NamedTuple

from textflow.data.fingerprint import fingerprint

WOMEN = ("Anna", "Clara", "Edith", "Greta", "Ida", "Mary", "Rosa", "Ruth")
KINDS = {"hero": "names", "friend": "names", "job": "jobs", "adj": "adjectives", "noun": "objects", "place": "places"}
FORM_KINDS = {"he": "pronouns", "him": "pronouns", "his": "pronouns", "a": "articles"}
DISTINCT = {"friend": "hero"}  # a word that another one excludes


def by_gender(woman: str, man: str) -> Callable[[str], str]:
    """A pronoun as a function of a name."""
    return lambda name: woman if name in WOMEN else man


FORMS: dict[str, Callable[[str], str]] = {
    "": lambda word: word,
    "he": by_gender("she", "he"),
    "him": by_gender("her", "him"),
    "his": by_gender("her", "his"),
    "a": lambda word: "an" if word[0] in "aeiou" else "a",
}


class Field(NamedTuple):
    """A position in an order: a literal word (class empty), or a word of a class in some form."""

    name: str
    form: str
    starts: bool  # whether it starts a sentence, with a capital

    def word(self, choice: str) -> str:
        """The word that stands there, if `choice` is that of the class."""
        word = FORMS[self.form](choice) if self.name else self.form
        return word[0].upper() + word[1:] if self.starts else word


class Check(NamedTuple):
    """Agreements of a text with the grammar.

    Args:
        in_grammar: whether some order fits, whatever its agreements.
        correct: number of agreements that are correct, by kind.
        total: number of agreements in the order that fits best, by kind.
    """

    in_grammar: bool
    correct: dict[str, int]
    total: dict[str, int]

    @property
    def valid(self) -> bool:
        """True if the text is one of the language."""
        return self.in_grammar and self.correct == self.total


@dataclass(frozen=True)
class Grammar:
    """Orders and classes of words.

    Args:
        classes: words of each class.
        stages: alternatives of each part of a story, in turn; an order takes one of each.
    """

    classes: dict[str, tuple[str, ...]]
    stages: tuple[tuple[str, ...], ...]

    @cached_property
    def orders(self) -> list[tuple[Field, ...]]:
        """All orders; each is as likely."""
        return [tuple(parse_order(" ".join(parts))) for parts in product(*self.stages)]

    @cached_property
    def accepted(self) -> list[list[frozenset[str]]]:
        """Words that may stand at each position of each order, whatever the others."""
        return [
            [frozenset(field.word(word) for word in self.classes.get(field.name, ("",))) for field in order]
            for order in self.orders
        ]

    @property
    def digest(self) -> str:
        """Hash of the classes and orders."""
        return fingerprint(self.classes, self.stages)

    def choices(self, name: str, chosen: dict[str, str]) -> list[str]:
        """Words of a class that may still be chosen."""
        return [word for word in self.classes[name] if word != chosen.get(DISTINCT.get(name, ""))]

    def sample(self, seed: str) -> str:
        """A story, which depends on the seed alone."""
        draw, chosen = random.Random(seed), dict[str, str]()
        order = draw.choice(self.orders)
        for name in names(order):
            chosen[name] = draw.choice(self.choices(name, chosen))
        return join_words([field.word(chosen.get(field.name, "")) for field in order])

    def enumerate(self) -> Iterator[tuple[str, float]]:
        """Every text with its probability; only for a tiny grammar."""
        for order in self.orders:
            for words in product(*(self.classes[name] for name in names(order))):
                chosen = dict(zip(names(order), words, strict=True))
                if all(chosen[name] in self.choices(name, chosen) for name in chosen):
                    text = join_words([field.word(chosen.get(field.name, "")) for field in order])
                    yield text, math.exp(-self.order_entropy(order)) / len(self.orders)

    def order_entropy(self, order: Sequence[Field]) -> float:
        """Entropy of the words of an order, nats: all are as likely."""
        present = names(order)
        return sum(math.log(len(self.classes[name]) - (DISTINCT.get(name) in present)) for name in present)

    def fitting(self, text: str) -> list[tuple[Field, ...]]:
        """Orders whose positions accept the words of a text, whatever its agreements."""
        words = split_words(text)
        return [
            order
            for order, accepted in zip(self.orders, self.accepted, strict=True)
            if len(order) == len(words) and all(word in allowed for word, allowed in zip(words, accepted, strict=True))
        ]

    @cached_property
    def bigrams(self) -> frozenset[tuple[str, str]]:
        """Pairs of words that stand side by side in some text; an empty word is the edge of a text."""
        return frozenset(pair for order in self.orders for pair in self.neighbours(order))

    def neighbours(self, order: Sequence[Field]) -> Iterator[tuple[str, str]]:
        """Pairs of neighbouring words in the texts of an order, with an empty word before the first and after the last;
        all choices of the two words' classes."""
        edge = Field("", "", False)
        for pair in pairwise([edge, *order, edge]):
            classes = names(pair)
            for words in product(*(self.classes[name] for name in classes)):
                chosen = dict(zip(classes, words, strict=True))
                if all(chosen[name] in self.choices(name, chosen) for name in classes):
                    first, second = (field.word(chosen.get(field.name, "")) for field in pair)
                    yield first, second

    def count_bigrams(self, text: str) -> tuple[int, int]:
        """Numbers of pairs of neighbouring words, edges included, that the language has, and of all in a text."""
        pairs = list(pairwise(["", *split_words(text), ""]))
        return sum(pair in self.bigrams for pair in pairs), len(pairs)

    def check(self, text: str) -> Check:
        """Agreements of a text, in the order that fits it best; a text outside the grammar has none."""
        words = split_words(text)
        checks = [check_order(order, words) for order in self.fitting(text)]
        return max(checks, key=lambda check: sum(check.correct.values()) - sum(check.total.values()), default=OUTSIDE)


OUTSIDE = Check(False, {}, {})


def check_order(order: Sequence[Field], words: Sequence[str]) -> Check:
    """Agreements of the words at the positions of an order: each class means its first full mention."""
    chosen = {field.name: word for field, word in reversed(list(zip(order, words, strict=True))) if not field.form}
    correct, total, first = dict[str, int](), dict[str, int](), set[str]()

    def count(kind: str, holds: bool) -> None:
        correct[kind], total[kind] = correct.get(kind, 0) + holds, total.get(kind, 0) + 1

    for field, word in zip(order, words, strict=True):
        if field.name and (field.form or field.name in first):
            count(
                FORM_KINDS.get(field.form) or KINDS.get(field.name, field.name), field.word(chosen[field.name]) == word
            )
        elif field.name:
            first.add(field.name)
    for name, other in DISTINCT.items():
        if {name, other} <= chosen.keys():
            count("persons", chosen[name] != chosen[other])
    return Check(True, correct, total)


def names(order: Sequence[Field]) -> list[str]:
    """Classes of an order, each once."""
    return list(dict.fromkeys(field.name for field in order if field.name))


def parse_order(text: str) -> Iterator[Field]:
    """The positions of an order as it is written."""
    starts = True
    for name, form, literal in re.findall(r"\{(\w+)(?:\.(\w+))?\}|([\w']+|[.,])", text):
        yield Field(name, literal or form, starts)
        starts = literal == "."


def split_words(text: str) -> list[str]:
    """Words and punctuation of a text."""
    return re.findall(r"[\w'<>]+|[^\w\s]", text)


def join_words(words: Sequence[str]) -> str:
    """Words as text: no space before punctuation."""
    return re.sub(r" (?=[.,])", "", " ".join(words))
