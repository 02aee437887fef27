"""Loading of pretrained models and tokenizers by Hugging Face name or folder, without remote code."""

import hashlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from textflow.runtime.atomic import describe_error


@runtime_checkable
class ScorerTokenizer(Protocol):
    """Tokenizer interface of a scorer: ids without an EOS, and the EOS id."""

    @property
    def eos(self) -> int: ...

    def encode(self, texts: list[str]) -> list[list[int]]: ...


class HFScorerTokenizer:
    """A Hugging Face tokenizer without special tokens; an EOS is needed, a PAD is not.

    Args:
        tokenizer: tokenizer from AutoTokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"the tokenizer of {tokenizer.name_or_path} has no EOS; a scorer closes each text with it")
        self.tokenizer = tokenizer

    @property
    def eos(self) -> int:
        """Id that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def bos(self) -> int:
        """Id that begins a text; the EOS if the tokenizer defines none."""
        bos = self.tokenizer.bos_token_id
        return self.eos if bos is None else int(bos)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text."""
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []


def load_pretrained(auto_class: Any, name: str | Path, **options: Any) -> Any:
    """`auto_class.from_pretrained` without remote code; any failure raises a ValueError."""
    try:
        return auto_class.from_pretrained(name, trust_remote_code=False, **options)
    except Exception as error:  # damaged files raise many error types
        raise ValueError(
            f"no scorer at {name}: {describe_error(error)}; give a Hub name such as gpt2-large, a folder with "
            "config.json and model.safetensors, or fit one: textflow fit recipes/scorer.yaml"
        ) from error


def weights_hash(model: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over names, types and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
