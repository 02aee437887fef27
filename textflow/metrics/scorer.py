"""A causal language model that judges texts: any Hugging Face name or folder, never code from outside."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from textflow.metrics.perplexity import token_nll
from textflow.metrics.pretrained import Encoder, HuggingFaceEncoder, pretrained, weights_hash
from textflow.metrics.scored import Scored
from textflow.metrics.token_weights import find

KEPT = "<|endoftext|>"  # an EOS inside a text, where a protocol keeps special tokens
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def spoken(text: str) -> bool:
    """Whether a text says anything besides spaces and kept EOS."""
    return bool(text.replace(KEPT, "").strip())


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
        shorter: a model that reads fewer tokens than `length` is taken all the same; texts are cut where it ends.
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
        shorter: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"scorer dtype is {dtype!r}; known are {', '.join(DTYPES)}")
        self.counting, self.counts = counting, find(counting)
        self.name, self.dtype, self.batch_size, self.device = str(name), dtype, batch_size, device
        pinned = {} if revision is None else {"revision": revision}
        self.model = pretrained(AutoModelForCausalLM, name, dtype=DTYPES[dtype], **pinned).to(device).eval()
        self.tokenizer = tokenizer or HuggingFaceEncoder(pretrained(AutoTokenizer, name, **pinned))
        self.revision = getattr(self.model.config, "_commit_hash", None) or revision
        most = getattr(self.model.config, "max_position_embeddings", None) or 1024
        length = min(length, most) if length and shorter else length
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
            "special_tokens": self.counts.special,
            "aggregation": self.counts.aggregation,
        }

    def score(self, texts: Sequence[str], tick: Callable[[int], None] = lambda texts: None) -> Scored:
        """NLL of each text that is not empty.

        Args:
            texts: decoded, as a reader sees them; KEPT stands for an EOS inside, where the counting keeps those.
            tick: is told of every batch how many texts it had.
        """
        room, full = self.length - len(self.first), [i for i, text in enumerate(texts) if spoken(text)]
        encoded = dict(zip(full, self.encode([texts[i] for i in full]), strict=True))
        ids = {i: row[:room] for i, row in encoded.items() if row[:room]}
        found = self.sums_of(list(ids.values()), tick)
        counted = self.counts.counted(len(texts), self.batch_size)
        dropped = torch.tensor([i >= counted for i in ids], dtype=torch.bool)
        broken = ~found[0].isfinite() & ~dropped
        nll, tokens = (part.masked_fill(dropped | broken, 0) for part in found)
        cut, lost = sum(len(row) > room for row in encoded.values()), (int(dropped.sum()), int(broken.sum()))
        return Scored(list(ids.values()), nll, tokens, len(texts) - len(ids), self.counts.mean, cut, *lost)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, where the counting keeps special tokens with the EOS inside them."""
        if not self.counts.special:
            return self.tokenizer.encode(texts)
        parts = [text.split(KEPT) for text in texts]
        rows = iter(self.tokenizer.encode([part for each in parts for part in each]))
        joined = [[id for _ in each for id in [self.tokenizer.eos, *next(rows)]] for each in parts]
        return [row[1:] for row in joined]

    def sums_of(self, ids: list[list[int]], tick: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Weighted NLL and weights of texts, float64 [N] each."""
        nll, tokens = torch.zeros(len(ids), dtype=torch.float64), torch.zeros(len(ids), dtype=torch.float64)
        for rows in self.batches(ids):
            nll[rows], tokens[rows] = self.sums([ids[row] for row in rows], max(map(len, ids)))
            tick(len(rows))
        return nll, tokens

    @torch.no_grad()
    def features(self, ids: list[list[int]]) -> Float[Tensor, "N d"]:
        """The last hidden state of each text at its last token, float32: what MAUVE compares.

        Args:
            ids: the scorer's tokens, at least one each.
        """
        found = torch.zeros(len(ids), int(self.model.config.hidden_size))
        for rows in self.batches(ids):
            padded = self.padded([ids[row] for row in rows], max(len(ids[row]) for row in rows)).to(self.device)
            hidden = self.model(input_ids=padded, use_cache=False, output_hidden_states=True).hidden_states[-1]
            last = torch.tensor([len(ids[row]) - 1 for row in rows])
            found[rows] = hidden[torch.arange(len(rows)), last].float().cpu()  # [B, L, d] -> [B, d]
        return found

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
        ids = self.padded(rows, width)
        weights = self.counts.weights(ids, self.counts.valid(lengths, width, longest, self.length), eos).double()
        nll = token_nll(self.model(input_ids=ids.to(self.device), use_cache=False).logits, ids.to(self.device)).cpu()
        return (torch.where(weights > 0, nll, 0) * weights).sum(1), weights.sum(1)

    def padded(self, rows: list[list[int]], width: int) -> Tensor:
        """Rows as [B, width], EOS on the right."""
        return torch.tensor([row + [self.tokenizer.eos] * (width - len(row)) for row in rows])
