"""SentencePiece tokenizer, trained once on the corpus."""

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.fingerprint import fingerprint
from textflow.runtime.atomic import atomic_write_text, fsync, sha256
from textflow.runtime.lock import hold_lock
from textflow.runtime.rank_zero import rank_zero_info

MAX_CHARACTERS = 50_000_000  # maximum size of the training text; more costs memory for little effect
FIXED_PIECES = 261  # bytes, special pieces and the new line, which every model has
MAX_SENTENCE_BYTES = 4000  # maximum length of a SentencePiece sentence


class SentencePiece(Tokenizer):
    """Unigram SentencePiece model with byte fallback; lossless, including new lines and repeated spaces.

    Args:
        vocab_size: number of pieces, above 261 (256 bytes, 4 special pieces, the new line); ignored if `model_file` is
            given.
        model_file: trained .model file with </s> and <pad>; default: train one on the training documents.
    """

    def __init__(self, vocab_size: int = 4096, model_file: str | None = None) -> None:
        self.num_pieces, self.model_file = vocab_size, model_file
        self.processor: Any = None
        if model_file is None and vocab_size <= FIXED_PIECES:
            reason = "but 256 are bytes, 4 are special and 1 is the new line"
            raise ValueError(f"SentencePiece has {vocab_size} pieces, {reason}; give at least {FIXED_PIECES + 1}")
        if model_file is not None:
            self._load(Path(model_file))

    @property
    def vocab_size(self) -> int:
        return self.num_pieces

    @property
    def eos(self) -> int:
        return 1 if self.processor is None else self.processor.eos_id()

    @property
    def pad(self) -> int:
        return 0 if self.processor is None else self.processor.pad_id()

    def key(self) -> str:
        return fingerprint("SentencePiece 1", sha256(Path(self.model_file)) if self.model_file else self.num_pieces)

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        if self.model_file is not None:
            return
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / "sentencepiece.model"
        with hold_lock(cache / "lock"):
            if not path.is_file():
                train_sentencepiece(texts(), self.num_pieces, path)
                atomic_write_text(checksum_path(path), sha256(path) + "\n")
        if checksum_path(path).is_file() and checksum_path(path).read_text(
            encoding="utf-8", errors="replace"
        ).strip() != sha256(path):
            raise ValueError(f"{path} is damaged; remove the folder {cache}, and the same command trains it again")
        self._load(path)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._trained_processor().encode(texts, out_type=int, num_threads=1)

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return [self._trained_processor().decode(row) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        (folder / "sentencepiece.model").write_bytes(self._trained_processor().serialized_model_proto())
        return {}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "SentencePiece":
        return cls(model_file=str(folder / "sentencepiece.model"))

    def _trained_processor(self) -> Any:
        if self.processor is None:
            raise ValueError("this SentencePiece model is not trained yet; call the data module's prepare_data() first")
        return self.processor

    def _load(self, path: Path) -> None:
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
        self.num_pieces = self.processor.get_piece_size()


def checksum_path(path: Path) -> Path:
    """Path of a trained model's checksum."""
    return path.with_suffix(".sha256")


def train_sentencepiece(texts: Iterator[str], vocab_size: int, path: Path) -> None:
    """Train on texts and write `path` atomically; the number of threads is fixed, since it changes the scores."""
    from sentencepiece import SentencePieceTrainer

    rank_zero_info(f"training a SentencePiece model of {vocab_size} pieces")
    building, faults = path.with_suffix(".building"), list[Exception]()
    try:
        with building.open("wb") as file:
            SentencePieceTrainer.train(
                sentence_iterator=record_errors(limit_characters(texts), faults), model_writer=file,
                vocab_size=vocab_size, model_type="unigram", byte_fallback=True, pad_id=0, eos_id=1, unk_id=2,
                bos_id=-1, pad_piece="<pad>",
                normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["\n"],
                num_threads=4, minloglevel=2,
            )  # fmt: skip
        fsync(building)
        os.replace(building, path)
    except RuntimeError as error:
        if faults:
            raise faults[0] from None
        raise ValueError(vocab_size_error(vocab_size, str(error))) from None
    finally:
        building.unlink(missing_ok=True)


def record_errors(texts: Iterator[str], errors: list[Exception]) -> Iterator[str]:
    """Iterate over texts and record reading errors, since SentencePiece replaces them with its own."""
    try:
        yield from texts
    except Exception as error:
        errors.append(error)
        raise


def vocab_size_error(vocab_size: int, error: str) -> str:
    """Error message with a possible vocabulary size, parsed from SentencePiece's own error."""
    limits = (("many", "possible", r"value <= (\d+)"), ("few", "needed", r"required_chars.*?\d+ vs (\d+)"))
    for amount, verdict, pattern in limits:
        if match := re.search(pattern, error):
            option = f"--data.tokenizer.vocab_size {match[1]}"
            return f"{vocab_size} pieces are too {amount} for this text, {match[1]} are {verdict}: {option}"
    return f"SentencePiece could not be trained with {vocab_size} pieces: {' '.join(error.split())}"


def limit_characters(texts: Iterator[str]) -> Iterator[str]:
    """Iterate over sentences of at most MAX_SENTENCE_BYTES from the first MAX_CHARACTERS of the texts."""
    left = MAX_CHARACTERS
    for text in texts:
        yield from split_sentences(text[:left])
        left -= len(text)
        if left <= 0:
            return


def split_sentences(text: str) -> Iterator[str]:
    """Split a text into lines, and long lines at spaces."""
    for line in text.split("\n"):
        words = iter(line.split(" ") if len(line) > MAX_SENTENCE_BYTES // 4 else [line])
        while group := list(islice(words, 100)):
            joined = " ".join(group)
            for start in range(0, len(joined), MAX_SENTENCE_BYTES // 4):
                yield joined[start : start + MAX_SENTENCE_BYTES // 4]
