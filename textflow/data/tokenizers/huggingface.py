"""Any Hugging Face tokenizer, by name or folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.fingerprint import fingerprint


class HuggingFace(Tokenizer):
    """A tokenizer of the library transformers; one without EOS or PAD needs to be told which of its tokens serve.

    Args:
        name: Hub name, or a local folder.
        eos: the token that ends a text, where the tokenizer names none.
        pad: the token that fills a row, where the tokenizer names none; may be the same as eos.
    """

    def __init__(self, name: str, eos: str | None = None, pad: str | None = None) -> None:
        self.name = name
        self.inner = loaded(name)
        self.ends, self.fills = self._id("eos", eos), self._id("pad", pad)
        # taken now, since encoding changes the rules (it turns the file's own truncation off)
        self.mark = fingerprint("HuggingFace 1", rules(self.inner), self.ends, self.fills)

    @property
    def vocab(self) -> int:
        return len(self.inner)

    @property
    def eos(self) -> int:
        return self.ends

    @property
    def pad(self) -> int:
        return self.fills

    def key(self) -> str:
        return self.mark

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        """Nothing: it can encode from the start."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:  # which the tokenizer cannot take
            return []
        return self.inner(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def words(self, ids: list[list[int]]) -> list[str]:
        return [self.inner.decode(row, clean_up_tokenization_spaces=False) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        self.inner.save_pretrained(str(folder))
        eos, pad = self.inner.convert_ids_to_tokens([self.ends, self.fills])
        return {"eos": eos, "pad": pad}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "HuggingFace":
        return cls(str(folder), **options)

    def _id(self, role: str, token: str | None) -> int:
        if token is None:
            found = getattr(self.inner, f"{role}_token_id")
            if found is None:
                raise ValueError(missing(self.name, role, self.inner.eos_token or self.inner.sep_token))
            return found
        if token not in self.inner.get_vocab():
            raise ValueError(f"tokenizer {self.name} has no token {token!r} to use as {role}")
        return self.inner.convert_tokens_to_ids(token)


def rules(inner: Any) -> object:
    """All that a tokenizer does, in plain values."""
    backend = getattr(inner, "backend_tokenizer", None)
    return backend.to_str() if backend else inner.get_vocab()


def missing(name: str, role: str, other: str | None) -> str:
    """The error for a tokenizer that lacks a role, and the token that could play it."""
    hint = f"--data.tokenizer.{role} '{other}'" if other else f"--data.tokenizer.{role} TOKEN, one of its vocabulary"
    return f"tokenizer {name} has no {role.upper()} token; name the one to use: {hint}"


def loaded(name: str) -> Any:
    """The tokenizer, without running code of the repository that it comes from."""
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the data room has its own processes
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"cannot load the tokenizer {name}: {found}; name another, or a local folder (--data.tokenizer.name)"
        ) from error
