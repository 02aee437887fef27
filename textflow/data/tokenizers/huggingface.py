"""Hugging Face tokenizers, by name or folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.fingerprint import fingerprint


class HFTokenizer(Tokenizer):
    """Tokenizer of the transformers library; without an EOS or PAD token, one of its tokens has to be chosen.

    Args:
        name: Hub name, or a local folder.
        eos_token: token that ends a text, where the tokenizer defines none.
        pad_token: token that fills a row, where the tokenizer defines none; may be the same as eos_token.
    """

    def __init__(self, name: str, eos_token: str | None = None, pad_token: str | None = None) -> None:
        self.name = name
        self.inner = load_tokenizer(name)
        self._eos_id, self._pad_id = self._token_id("eos", eos_token), self._token_id("pad", pad_token)
        # taken now, since encoding changes the rules (it turns the file's own truncation off)
        backend = getattr(self.inner, "backend_tokenizer", None)
        state = backend.to_str() if backend else self.inner.get_vocab()
        self._key = fingerprint("HFTokenizer 1", state, self._eos_id, self._pad_id)

    @property
    def vocab_size(self) -> int:
        return len(self.inner)

    @property
    def eos(self) -> int:
        return self._eos_id

    @property
    def pad(self) -> int:
        return self._pad_id

    def key(self) -> str:
        return self._key

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        """Do nothing: the tokenizer is already trained."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        if not texts:  # the tokenizer rejects an empty list
            return []
        return self.inner(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return [self.inner.decode(row, clean_up_tokenization_spaces=False) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        self.inner.save_pretrained(str(folder))
        eos, pad = self.inner.convert_ids_to_tokens([self._eos_id, self._pad_id])
        return {"eos_token": eos, "pad_token": pad}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "HFTokenizer":
        return cls(str(folder), **options)

    def _token_id(self, role: str, token: str | None) -> int:
        if token is None:
            token_id = getattr(self.inner, f"{role}_token_id")
            if token_id is None:
                near = self.inner.eos_token or self.inner.sep_token
                option = f"--data.tokenizer.{role}_token " + (f"'{near}'" if near else "TOKEN, one of its vocabulary")
                raise ValueError(f"tokenizer {self.name} has no {role.upper()} token; name the one to use: {option}")
            return token_id
        if token not in self.inner.get_vocab():
            raise ValueError(f"tokenizer {self.name} has no token {token!r} to use as {role}")
        return self.inner.convert_tokens_to_ids(token)


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer without running code of its repository."""
    from transformers import AutoTokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the data module starts its own processes
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "name another, or a local folder (--data.tokenizer.name)"
        raise ValueError(f"cannot load the tokenizer {name}: {reason}; {hint}") from error
