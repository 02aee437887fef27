"""A causal language model that judges texts: any Hugging Face name or folder, never code from outside."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from textflow.metrics.counting import find
from textflow.metrics.perplexity import token_nll

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@runtime_checkable
class Encoder(Protocol):
    """What a scorer needs of a tokenizer: ids without an EOS, and the EOS."""

    @property
    def eos(self) -> int: ...

    def encode(self, texts: list[str]) -> list[list[int]]: ...


class HuggingFaceEncoder:
    """A Hugging Face tokenizer without special tokens; an EOS is needed, a PAD is not.

    Args:
        tokenizer: as AutoTokenizer gives it.
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
        """Id that begins a text: the EOS where there is no other."""
        found = self.tokenizer.bos_token_id
        return self.eos if found is None else int(found)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text."""
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []


class Scored(NamedTuple):
    """What a scorer found in texts.

    Args:
        ids: its own tokens of each text that is not empty, cut at its length.
        nll: weighted sum of token NLL of each, nats, float64 [N].
        tokens: sum of weights of each, float64 [N]; 0 where nothing could be scored or the counting drops the text.
        empty: number of texts without a token; they are skipped.
        mean: perplexity of the `corpus`, or the mean over that of each `sample`.
    """

    ids: list[list[int]]
    nll: Tensor
    tokens: Tensor
    empty: int
    mean: str = "corpus"

    @property
    def perplexity(self) -> float | None:
        """By the counting: exp(sum nll / sum tokens), or the mean over samples; None where nothing could be scored."""
        if self.tokens.sum() == 0:
            return None
        if self.mean == "sample":
            return sum(self.sample_perplexities) / len(self.sample_perplexities)
        return float((self.nll.sum() / self.tokens.sum()).exp())

    @property
    def sample_perplexities(self) -> list[float]:
        """Perplexity of each text that has a scored token."""
        scored = self.tokens > 0
        return (self.nll[scored] / self.tokens[scored]).exp().tolist()


def pretrained(kind: Any, name: str | Path, **options: Any) -> Any:
    """`kind.from_pretrained` without remote code; what cannot be found is a ValueError."""
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no scorer at {name}: {first}; give a Hub name such as gpt2-large, a folder with config.json and "
            "model.safetensors, or fit one: textflow fit recipes/scorer.yaml"
        ) from error


def weights_hash(model: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over names, types and values of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class Scorer:
    """Judges texts by a causal language model: decoded texts are tokenised anew, cut and counted as a protocol says.

    Args:
        name: Hub name (gpt2-large) or folder written by `save_pretrained`.
        tokenizer: what encodes for it; default: the tokenizer that lies beside the model.
        length: most tokens of a text; default: 1,024 or what the model was made for, if that is less.
        dtype: float32, float16 or bfloat16.
        counting: which tokens count and how they add up: local, elf, mdlm, langflow or ld4lg.
        batch_size: texts at once; counts only where the counting drops an incomplete last batch (mdlm).
        device: cpu or cuda.
        revision: branch, tag or commit on the Hub.
    """

    def __init__(
        self,
        name: str | Path,
        tokenizer: Encoder | None = None,
        length: int | None = None,
        dtype: str = "float32",
        counting: str = "local",
        batch_size: int = 8,
        device: str = "cpu",
        revision: str | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"scorer dtype is {dtype!r}; known are {', '.join(DTYPES)}")
        self.counting, self.counts = counting, find(counting)
        self.name, self.dtype, self.batch_size, self.device = str(name), dtype, batch_size, device
        self.revision, pinned = revision, {} if revision is None else {"revision": revision}
        self.model = pretrained(AutoModelForCausalLM, name, dtype=DTYPES[dtype], **pinned).to(device).eval()
        self.tokenizer = tokenizer or HuggingFaceEncoder(pretrained(AutoTokenizer, name, **pinned))
        most = getattr(self.model.config, "max_position_embeddings", None) or 1024
        if length is not None and not 1 <= length <= most:
            raise ValueError(f"scorer length is {length}, but {name} reads at least 1 and at most {most} tokens")
        self.length = length or min(1024, most)

    @cached_property
    def hash(self) -> str:
        """Of the model's weights, 16 hex digits."""
        return weights_hash(self.model)

    @property
    def first(self) -> list[int]:
        """What stands before each text: nothing, or the token that begins one."""
        return [getattr(self.tokenizer, "bos", self.tokenizer.eos)] if self.counts.start else []

    def protocol(self) -> dict[str, Any]:
        """What two perplexities must share to be compared."""
        kind = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        return {
            "scorer": self.name,
            "scorer_revision": self.revision,
            "scorer_hash": self.hash,
            "scorer_dtype": self.dtype,
            "scorer_tokenizer": type(kind).__name__,
            "scorer_vocab": int(self.model.config.vocab_size),
            "truncation": self.length,
            "counting": self.counting,
            "weights": self.counts.rule,
            "scored_eos": self.counts.eos,
            "scored_first": self.counts.start,
            "aggregation": self.counts.aggregation,
        }

    def score(self, texts: Sequence[str]) -> Scored:
        """NLL of each text that is not empty.

        Args:
            texts: decoded, as a reader sees them.
        """
        room, full = self.length - len(self.first), [i for i, text in enumerate(texts) if text.strip()]
        encoded = zip(full, self.tokenizer.encode([texts[i] for i in full]), strict=True)
        kept = [(i, row[:room]) for i, row in encoded if row[:room]]
        ids = [row for _, row in kept]
        nll, tokens = torch.zeros(len(ids), dtype=torch.float64), torch.zeros(len(ids), dtype=torch.float64)
        for rows in self.batches(ids):
            nll[rows], tokens[rows] = self.sums([ids[row] for row in rows], max(map(len, ids)))
        counted = self.counts.counted(len(texts), self.batch_size)
        dropped = torch.tensor([i >= counted for i, _ in kept], dtype=torch.bool)
        nll, tokens = nll.masked_fill(dropped, 0), tokens.masked_fill(dropped, 0)
        return Scored(ids, nll, tokens, len(texts) - len(ids), self.counts.mean)

    def batches(self, ids: list[list[int]]) -> Iterator[list[int]]:
        """Row numbers, batch by batch, long rows first so that little is padded."""
        order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    @torch.no_grad()
    def sums(self, rows: list[list[int]], longest: int) -> tuple[Tensor, Tensor]:
        """Weighted NLL and weights of each row; a causal model needs no mask where the padding is on the right."""
        rows, longest, eos = [self.first + row for row in rows], longest + len(self.first), self.tokenizer.eos
        lengths = torch.tensor([len(row) for row in rows])
        width = min(int(lengths.max()) + 1, self.length)
        ids = torch.tensor([row + [eos] * (width - len(row)) for row in rows])
        weights = self.counts.weights(ids, self.counts.valid(lengths, width, longest, self.length), eos).double()
        nll = token_nll(self.model(input_ids=ids.to(self.device), use_cache=False).logits, ids.to(self.device)).cpu()
        return (nll * weights).sum(1), weights.sum(1)
