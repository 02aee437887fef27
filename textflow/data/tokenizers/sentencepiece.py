"""A SentencePiece model, trained once on the corpus itself."""

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info

from textflow.data.base import Tokenizer
from textflow.data.fingerprint import fingerprint
from textflow.runtime.atomic import content, replace_text, settle

CHARACTERS = 50_000_000  # of text to train on; more changes little and costs memory
PIECE = 4000  # bytes: what SentencePiece takes as one sentence at most


class SentencePiece(Tokenizer):
    """Unigram pieces with bytes for what they do not cover; keeps every character, new lines and runs of spaces too.

    Args:
        vocab: number of pieces, above 300 (256 of them are bytes); ignored if `model` is given.
        model: a trained .model file with </s> and <pad>; without it one is trained on the training documents.
    """

    def __init__(self, vocab: int = 4096, model: str | None = None) -> None:
        self.pieces, self.model = vocab, model
        self.processor: Any = None
        if model is None and vocab <= 300:
            raise ValueError(f"SentencePiece of {vocab} pieces: 256 are bytes and 4 are special, give at least 301")
        if model is not None:
            self._open(Path(model))

    @property
    def vocab(self) -> int:
        return self.pieces

    @property
    def eos(self) -> int:
        return 1 if self.processor is None else self.processor.eos_id()

    @property
    def pad(self) -> int:
        return 0 if self.processor is None else self.processor.pad_id()

    def key(self) -> str:
        return fingerprint("SentencePiece 1", content(Path(self.model)) if self.model else self.pieces)

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        if self.model is not None:
            return
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / "sentencepiece.model"
        with FileLock(cache / "lock"):
            if not path.is_file():
                train(texts(), self.pieces, path)
                replace_text(sums(path), content(path) + "\n")
        if sums(path).is_file() and sums(path).read_text(errors="replace").strip() != content(path):
            raise ValueError(f"{path} is damaged; remove the folder {cache}, and the same command trains it anew")
        self._open(path)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._ready().encode(texts, out_type=int, num_threads=1)

    def words(self, ids: list[list[int]]) -> list[str]:
        return [self._ready().decode(row) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "sentencepiece.model").write_bytes(self._ready().serialized_model_proto())
        return {}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "SentencePiece":
        return cls(model=str(folder / "sentencepiece.model"))

    def _ready(self) -> Any:
        if self.processor is None:
            raise ValueError("this SentencePiece model is not trained yet; call the data module's prepare_data() first")
        return self.processor

    def _open(self, path: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        if not path.is_file():
            raise ValueError(f"no SentencePiece model at {path}; give a .model file, or none to train one")
        try:
            self.processor = SentencePieceProcessor(model_file=str(path))
        except RuntimeError as error:
            raise ValueError(f"{path} is not a SentencePiece model: {' '.join(str(error).split())}") from None
        missing = [name for name in ("eos", "pad") if getattr(self.processor, f"{name}_id")() < 0]
        if missing:
            raise ValueError(f"{path} has no {' and no '.join(missing)} piece; train it with --eos_id=1 --pad_id=0")
        self.pieces = self.processor.get_piece_size()


def sums(path: Path) -> Path:
    """Where the checksum of a trained model stands."""
    return path.with_suffix(".sha256")


def train(texts: Iterator[str], vocab: int, path: Path) -> None:
    """Train on texts and write `path` whole or not at all; the number of threads is fixed, since it moves scores."""
    from sentencepiece import SentencePieceTrainer

    rank_zero_info(f"training a SentencePiece model of {vocab} pieces")
    building, faults = path.with_suffix(".building"), list[Exception]()
    try:
        with building.open("wb") as file:
            SentencePieceTrainer.train(
                sentence_iterator=noted(bounded(texts), faults), model_writer=file, vocab_size=vocab,
                model_type="unigram", byte_fallback=True, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>",
                normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["\n"],
                num_threads=4, minloglevel=2,
            )  # fmt: skip
        settle(building)
        os.replace(building, path)
    except RuntimeError as error:
        if faults:
            raise faults[0] from None
        raise ValueError(too_many(vocab, str(error))) from None
    finally:
        building.unlink(missing_ok=True)


def noted(texts: Iterator[str], faults: list[Exception]) -> Iterator[str]:
    """The texts; what goes wrong while they are read is kept, since SentencePiece makes its own error of it."""
    try:
        yield from texts
    except Exception as error:
        faults.append(error)
        raise


def too_many(vocab: int, error: str) -> str:
    """What to do about SentencePiece's complaint; it names the largest possible vocabulary itself."""
    if found := re.search(r"value <= (\d+)", error):
        return f"{vocab} pieces are too many for this text, {found[1]} are possible: --data.tokenizer.vocab {found[1]}"
    if found := re.search(r"required_chars.*?\d+ vs (\d+)", error):
        return f"{vocab} pieces are too few for this text, {found[1]} are needed: --data.tokenizer.vocab {found[1]}"
    return f"SentencePiece could not be trained with {vocab} pieces: {' '.join(error.split())}"


def bounded(texts: Iterator[str]) -> Iterator[str]:
    """Sentences of at most PIECE bytes from the first CHARACTERS of the texts."""
    left = CHARACTERS
    for text in texts:
        yield from sentences(text[:left])
        left -= len(text)
        if left <= 0:
            return


def sentences(text: str) -> Iterator[str]:
    """Lines, the long ones cut at spaces."""
    for line in text.split("\n"):
        words = iter(line.split(" ") if len(line) > PIECE // 4 else [line])
        while group := list(islice(words, 100)):
            joined = " ".join(group)
            for start in range(0, len(joined), PIECE // 4):
                yield joined[start : start + PIECE // 4]
