"""Several sources as one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from textflow.data.base import Document, Reading, Source
from textflow.data.fingerprint import fingerprint


@dataclass(frozen=True)
class Mixture(Source):
    """Documents of several sources, each next one from the source that is furthest behind its share [ours].

    No chance is involved: after any document each source has given its share of the text to within its own longest
    document, and the order is a function of the sources and weights alone.

    Args:
        sources: by a name of your own.
        weights: share of the text, in characters, of each source by its name, above 0; they need not add up to 1.
            Default: equal shares.
        until: first: end where the first source ends, so that the shares hold to the end; all: go on with the others
            until every document of every source was given once.
    """

    sources: dict[str, Source]
    weights: dict[str, float] | None = None
    until: Literal["first", "all"] = "first"

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("Mixture has no sources; name at least one, e.g. sources: {bible: Bible}")
        given = self.shares
        if given.keys() != self.sources.keys() or not all(0 < share < float("inf") for share in given.values()):
            raise ValueError(
                f"Mixture weighs {given} of the sources {', '.join(self.sources)}; each needs a weight above 0"
            )

    @property
    def shares(self) -> dict[str, float]:
        """The weights, not normalised."""
        return dict.fromkeys(self.sources, 1.0) if self.weights is None else self.weights

    def documents(self) -> Iterator[Document]:
        yield from self.begin()

    def begin(self, place: dict[str, Any] | None = None) -> Reading:
        state = place["mark"] if place else {"places": dict.fromkeys(self.sources), "given": {}, "ended": []}
        walk = Walk(self, state)
        return Reading(walk, place["documents"] if place else 0, walk.mark)

    def key(self) -> str:
        keys = [(name, source.key(), self.shares[name]) for name, source in self.sources.items()]
        return fingerprint("Mixture 1", keys, self.until)

    def count(self) -> int | None:
        counts = [source.count() for source in self.sources.values()]
        known = [count for count in counts if count is not None]
        return sum(known) if self.until == "all" and len(known) == len(counts) else None


class Walk(Iterator[Document]):
    """The documents of a mixture from a place on.

    Args:
        mixture: of sources.
        state: places of its sources, characters that each has given, names of those that ended.
    """

    def __init__(self, mixture: Mixture, state: dict[str, Any]) -> None:
        self.mixture = mixture
        self.readings = {name: source.begin(state["places"][name]) for name, source in mixture.sources.items()}
        self.given = {name: state["given"].get(name, 0) for name in mixture.sources}
        self.open = [name for name in mixture.sources if name not in state["ended"]]

    def __next__(self) -> Document:
        while self.open:
            name = min(self.open, key=lambda name: self.given[name] / self.mixture.shares[name])
            if (document := next(self.readings[name], None)) is not None:
                self.given[name] += max(len(document.text) + len(document.given or ""), 1)
                return document
            self.open = [] if self.mixture.until == "first" else [other for other in self.open if other != name]
        raise StopIteration

    def mark(self) -> dict[str, Any]:
        """What it needs to go on from here, as plain data."""
        places = {name: reading.place() for name, reading in self.readings.items()}
        ended = [name for name in self.mixture.sources if name not in self.open]
        return {"places": places, "given": dict(self.given), "ended": ended}
