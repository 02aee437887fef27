"""A mixture has fixed shares and a fixed order, and reading it resumes at any document."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import read_all
from tests.helpers.user_errors import refused
from textflow.config.recipe import load_recipe
from textflow.data import Mixture, Source, TextFiles

ROOT = Path(__file__).parents[2]


@pytest.fixture
def mixture(made: Any) -> Any:
    def make(**options: Any) -> Mixture:
        return Mixture({"a": made(200, 60), "b": made(300, 20)}, **options)

    return make


def test_shares_of_the_text_hold_after_every_document(made: Any) -> None:
    mixed = Mixture({"a": Tagged(made(200, 60), "a"), "b": Tagged(made(300, 20), "b")}, {"a": 1.0, "b": 3.0})
    characters: Counter[str] = Counter()
    for document in mixed.documents():
        characters[document.origin[0]] += len(document.text)
        assert abs(3 * characters["a"] - characters["b"]) <= 3 * 65 + 25
    assert characters["a"] > 500


class Tagged(Source):
    """A source whose name is in the origin of each document."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def documents(self) -> Any:
        yield from (document._replace(origin=f"{self.name} {document.origin}") for document in self.source.documents())

    def key(self) -> str:
        return f"{self.name} {self.source.key()}"


def test_first_ends_with_a_source_and_all_gives_every_document_once(made: Any) -> None:
    sources = {"a": Tagged(made(20), "a"), "b": Tagged(made(90), "b")}
    origins = [document.origin for document in Mixture(sources, stopping_strategy="all_exhausted").documents()]
    assert Counter(origin[0] for origin in origins) == {"a": 20, "b": 90} and len(set(origins)) == 110
    ended = [document.origin for document in Mixture(sources).documents()]
    assert ended == origins[: len(ended)] and Counter(origin[0] for origin in ended)["a"] == 20 and len(ended) < 60


@pytest.mark.parametrize("strategy", ["first_exhausted", "all_exhausted"])
def test_reading_resumes_at_any_document(mixture: Any, strategy: str) -> None:
    source = mixture(stopping_strategy=strategy)
    documents, iterator = list(source.documents()), source.resume()
    for position in range(len(documents) + 1):
        if position % 20 == 0 or position > len(documents) - 2:
            state = json.loads(json.dumps(iterator.state_dict()))
            assert list(source.resume(state)) == documents[position:], position
        next(iterator, None)


def test_a_mixture_may_hold_a_mixture(mixture: Any, made: Any) -> None:
    outer = Mixture(
        {"inner": mixture(stopping_strategy="all_exhausted"), "c": made(40)}, stopping_strategy="all_exhausted"
    )
    assert len(list(outer.documents())) == 540
    iterator = outer.resume()
    start = [next(iterator) for _ in range(77)]
    assert start + list(outer.resume(iterator.state_dict())) == list(outer.documents())


def test_another_weight_or_source_is_another_key(mixture: Any, made: Any) -> None:
    others = [mixture(weights={"a": 1.0, "b": 2.0}), mixture(stopping_strategy="all_exhausted")]
    others.append(Mixture({"a": made(200, 60), "b": made(301, 20)}))
    assert len({mixture().key(), *(other.key() for other in others)}) == 4
    assert mixture().key() == mixture(weights={"a": 1.0, "b": 1.0}).key()


def test_unsuitable_weights_no_sources_and_a_fault_in_one_are_refused(mixture: Any, made: Any, tmp_path: Path) -> None:
    for weights in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": -1.0}, {"a": 1.0, "c": 1.0}):
        refused("each needs a weight above 0", mixture, weights=weights)
    refused("no sources", Mixture, {})
    (tmp_path / "a.txt").write_bytes(b"fine\n\nna\xefve\n")
    damaged = Mixture({"a": TextFiles(str(tmp_path / "a.txt")), "b": made()})
    refused(r"a\.txt:3: not UTF-8", read_all, damaged)


@pytest.mark.integration
def test_a_recipe_names_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = load_recipe(["recipes/small/elf.yaml", "recipes/data/mixture.yaml", "--data.source.weights.bible", "2"])
    made = config.data.source.init_args
    assert made.sources["bible"].class_path.endswith("Bible") and made.weights == {"bible": 2.0, "stories": 3.0}
