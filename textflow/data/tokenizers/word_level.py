"""Tokenizer of whole words and punctuation, for text of few words."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.fingerprint import fingerprint
from textflow.data.grammar import join_words, split_words
from textflow.runtime.atomic import atomic_write_json
from textflow.runtime.lock import hold_lock

SPECIAL = ["<pad>", "<eos>", "<unk>"]
FILE = "words.json"


class WordLevel(Tokenizer):
    """A token per word or punctuation mark; the most frequent words of the corpus. A rarer word becomes <unk>.

    Args:
        vocab_size: number of tokens, at least 4: <pad>, <eos>, <unk> and the words. If the corpus has fewer words, the
            last tokens never occur.
        words: the words; default: those of the corpus.
    """

    def __init__(self, vocab_size: int = 256, words: list[str] | None = None) -> None:
        if vocab_size <= len(SPECIAL) or (words is not None and len(words) > vocab_size - len(SPECIAL)):
            raise ValueError(f"WordLevel has {vocab_size} tokens, of which {', '.join(SPECIAL)} are special; give more")
        self.num_tokens, self.words = vocab_size, words

    @property
    def vocab_size(self) -> int:
        return self.num_tokens

    @property
    def pad(self) -> int:
        return 0

    @property
    def eos(self) -> int:
        return 1

    def key(self) -> str:
        return fingerprint("WordLevel 1", self.num_tokens, self.words)

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        if self.words is not None:
            return
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / FILE
        with hold_lock(cache / "lock"):
            if not path.is_file():
                counts = Counter(word for text in texts() for word in split_words(text))
                frequent = sorted(counts, key=lambda word: (-counts[word], word))[: self.num_tokens - len(SPECIAL)]
                atomic_write_json(path, frequent)
            self.words = json.loads(path.read_text(encoding="utf-8"))

    def encode(self, texts: list[str]) -> list[list[int]]:
        ids = {word: i for i, word in enumerate(self._known(), len(SPECIAL))}
        return [[ids.get(word, 2) for word in split_words(text)] for text in texts]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        known = SPECIAL + self._known()
        return [join_words([known[i] if i < len(known) else SPECIAL[2] for i in row]) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        return {"vocab_size": self.num_tokens, "words": self._known()}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "WordLevel":
        return cls(**options)

    def _known(self) -> list[str]:
        if self.words is None:
            raise ValueError("WordLevel has not read its corpus yet; call prepare first")
        return self.words
