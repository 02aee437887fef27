"""Loading of pretrained models and tokenizers by Hugging Face name or folder, without remote code."""

import hashlib
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from textflow.runtime.atomic import describe_error
from textflow.runtime.visible import visible_files


@runtime_checkable
class ScorerTokenizer(Protocol):
    """Tokenizer interface of a scorer: ids without an EOS, texts of such ids, and the EOS id."""

    @property
    def eos(self) -> int: ...

    def encode(self, texts: list[str]) -> list[list[int]]: ...

    def decode_ids(self, ids: list[list[int]]) -> list[str]: ...


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

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        """Texts of rows of ids."""
        return [str(self.tokenizer.decode(row, clean_up_tokenization_spaces=False)) for row in ids]


def load_pretrained(auto_class: Any, name: str | Path, **options: Any) -> Any:
    """`auto_class.from_pretrained` without remote code; any failure raises a ValueError.

    Args:
        auto_class: AutoModelForCausalLM or AutoTokenizer.
        name: Hub name, folder of `save_pretrained`, or folder with one GGUF file, at any depth.
        options: further arguments of `from_pretrained`.
    """
    gguf = find_gguf(name)
    place, options = (name, options) if gguf is None else (gguf.parent, options | {"gguf_file": gguf.name})
    try:
        return auto_class.from_pretrained(place, trust_remote_code=False, **options)
    except Exception as error:  # damaged files raise many error types
        kinds = "a Hub name such as gpt2-large, a folder with config.json and model.safetensors"
        advice = f"give {kinds}, or fit one: textflow fit recipes/scorer.yaml"
        if gguf is not None:
            advice = "a GGUF file needs pip install 'textflow[gguf]', and to be whole"
        raise ValueError(f"no scorer at {name}: {describe_error(error)}; {advice}") from error


def find_gguf(name: str | Path) -> Path | None:
    """The GGUF file of a folder without config.json; None if there is none, an error if there are several."""
    files = [] if (Path(name) / "config.json").is_file() else visible_files(Path(name), "**/*.gguf")
    if len(files) > 1:
        raise ValueError(f"{name} holds {len(files)} GGUF files, and a scorer is one; give the folder of one")
    return files[0] if files else None


def weights_hash(model: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over names, types and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
