"""Mixture of several sources with fixed shares."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from textflow.data.base import Document, DocumentIterator, Source
from textflow.data.fingerprint import fingerprint


@dataclass(frozen=True)
class Mixture(Source):
    """Mixture of sources; each next document comes from the source that is furthest behind its share [ours].

    The order is deterministic, a function of the sources and weights alone. After any document, the text of each
    source deviates from its share by at most its longest document.

    Args:
        sources: sources by name; the names are free.
        weights: share of the text, in characters, of each source by name, above 0; only their ratios matter.
            Default: equal shares.
        stopping_strategy: first_exhausted: end where the first source ends, so that the shares hold to the end;
            all_exhausted: continue with the others until every document of every source is used once.
    """

    sources: dict[str, Source]
    weights: dict[str, float] | None = None
    stopping_strategy: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("Mixture has no sources; name at least one, e.g. sources: {bible: Bible}")
        weights = self.source_weights
        if weights.keys() != self.sources.keys() or not all(0 < share < float("inf") for share in weights.values()):
            names = ", ".join(self.sources)
            raise ValueError(f"Mixture has weights {weights} for sources {names}; each needs a weight above 0")

    @property
    def source_weights(self) -> dict[str, float]:
        """The weights, not normalised."""
        return dict.fromkeys(self.sources, 1.0) if self.weights is None else self.weights

    def documents(self) -> Iterator[Document]:
        yield from self.resume()

    def resume(self, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        start = {"iterators": dict.fromkeys(self.sources), "num_characters": {}, "exhausted": []}
        state = iterator_state or {"num_read": 0, "source_state": start}
        iterator = MixtureIterator(self, state["source_state"])
        return DocumentIterator(iterator, state["num_read"], iterator.state_dict)

    def key(self) -> str:
        keys = [(name, source.key(), self.source_weights[name]) for name, source in self.sources.items()]
        return fingerprint("Mixture 1", keys, self.stopping_strategy)

    def count(self) -> int | None:
        counts = [source.count() for source in self.sources.values()]
        known = [count for count in counts if count is not None]
        return sum(known) if self.stopping_strategy == "all_exhausted" and len(known) == len(counts) else None


class MixtureIterator(Iterator[Document]):
    """Iterator over the documents of a mixture that can resume.

    Args:
        mixture: mixture of sources.
        state: positions of the sources, characters read from each, and names of the exhausted ones.
    """

    def __init__(self, mixture: Mixture, state: dict[str, Any]) -> None:
        self.mixture = mixture
        self.iterators = {name: source.resume(state["iterators"][name]) for name, source in mixture.sources.items()}
        self.num_characters = {name: state["num_characters"].get(name, 0) for name in mixture.sources}
        self.active = [name for name in mixture.sources if name not in state["exhausted"]]

    def __next__(self) -> Document:
        while self.active:
            name = min(self.active, key=lambda name: self.num_characters[name] / self.mixture.source_weights[name])
            if (document := next(self.iterators[name], None)) is not None:
                self.num_characters[name] += max(document.num_characters, 1)
                return document
            self.active.remove(name)
            if self.mixture.stopping_strategy == "first_exhausted":
                self.active = []
        raise StopIteration

    def state_dict(self) -> dict[str, Any]:
        """State to resume from the current position, as plain data."""
        states = {name: iterator.state_dict() for name, iterator in self.iterators.items()}
        exhausted = [name for name in self.mixture.sources if name not in self.active]
        return {"iterators": states, "num_characters": dict(self.num_characters), "exhausted": exhausted}
