"""Stories of a small English with a known law, as many as asked for; nothing is downloaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from textflow.data.base import Document, DocumentIterator, Source
from textflow.data.fingerprint import fingerprint
from textflow.data.stories import GRAMMARS, GrammarName


@dataclass(frozen=True)
class Stories(Source):
    """Texts of a grammar whose likelihood is exact, a story a document [ours].

    Args:
        grammar: sentences (two sentences, 15 to 18 words with punctuation), stories (three, 27) or tales (three or
            four, 32 to 44).
        num_documents: number of stories, at least 1.
        seed: random seed; story i depends on grammar, seed and i alone.
    """

    grammar: GrammarName = "stories"
    num_documents: int = 50_000
    seed: int = 0

    draws_independently: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.grammar not in GRAMMARS or self.num_documents < 1:
            known = " or ".join(GRAMMARS)
            raise ValueError(
                f"Stories has {self.num_documents} documents of {self.grammar}; needs 1 or more of {known}"
            )

    def documents(self) -> Iterator[Document]:
        yield from self.resume()

    def resume(self, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        done, grammar = iterator_state["num_read"] if iterator_state else 0, GRAMMARS[self.grammar]
        stories = (
            Document(grammar.sample(f"{self.seed}/{i}"), f"{self.grammar}:{i}") for i in range(done, self.num_documents)
        )
        return DocumentIterator(stories, done)

    def key(self) -> str:
        grammar = GRAMMARS[self.grammar]
        return fingerprint("Stories 1", self.num_documents, self.seed, grammar.classes, grammar.stages)

    def count(self) -> int | None:
        return self.num_documents
