"""Scorer of texts by a causal language model from a Hugging Face name or folder, without remote code."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from textflow.metrics.perplexity import token_nll
from textflow.metrics.pretrained import HFScorerTokenizer, ScorerTokenizer, load_pretrained, weights_hash
from textflow.metrics.scorer_output import ScorerOutput, TextScorer
from textflow.metrics.token_weights import find_weighting

EOS_TEXT = "<|endoftext|>"  # an EOS inside a text, where a protocol keeps special tokens
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Scorer(TextScorer):
    """Scorer of decoded texts by a causal language model; a protocol fixes their tokens, truncation and weights.

    Args:
        name: Hub name (gpt2-large) or folder written by `save_pretrained`.
        tokenizer: tokenizer of the scorer; default: the tokenizer in the model's folder.
        max_length: maximum number of tokens of a text; default: 1,024 or the model's context, if shorter.
        dtype: float32, float16 or bfloat16.
        token_weighting: weights of tokens and their aggregation: local, elf, mdlm, langflow, ld4lg or whole.
        batch_size: number of texts in a batch; affects results only if the token weighting drops the last one (mdlm).
        device: cpu or cuda.
        revision: branch, tag or commit on the Hub.
        allow_shorter_context: accept a model whose context is shorter than `max_length`; texts are cut to its context.
    """

    def __init__(
        self,
        name: str | Path,
        tokenizer: ScorerTokenizer | None = None,
        max_length: int | None = None,
        dtype: str = "float32",
        token_weighting: str = "local",
        batch_size: int = 8,
        device: str = "cpu",
        revision: str | None = None,
        allow_shorter_context: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"scorer dtype is {dtype!r}; known are {', '.join(DTYPES)}")
        self.token_weighting, self.weighting = token_weighting, find_weighting(token_weighting)
        self.name, self.dtype, self.batch_size, self.device = str(name), dtype, batch_size, device
        pinned = {} if revision is None else {"revision": revision}
        self.model = load_pretrained(AutoModelForCausalLM, name, dtype=DTYPES[dtype], **pinned).to(device).eval()
        self.tokenizer = tokenizer or HFScorerTokenizer(load_pretrained(AutoTokenizer, name, **pinned))
        self.revision = getattr(self.model.config, "_commit_hash", None) or revision
        most = getattr(self.model.config, "max_position_embeddings", None) or 1024
        max_length = min(max_length, most) if max_length and allow_shorter_context else max_length
        if max_length is not None and not 1 <= max_length <= most:
            limits = f"{name} reads at least 1 and at most {most} tokens"
            raise ValueError(f"scorer max_length is {max_length}, but {limits}")
        self.max_length = max_length or min(1024, most)

    @cached_property
    def weights_hash(self) -> str:
        """Hash of the model's weights, 16 hex digits."""
        return weights_hash(self.model)

    @property
    def prefix_ids(self) -> list[int]:
        """Ids put before each text: none, or the beginning-of-text token."""
        return [getattr(self.tokenizer, "bos", self.tokenizer.eos)] if self.weighting.prepend_bos else []

    def identity(self) -> dict[str, Any]:
        kind = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        return {
            "scorer_hash": self.weights_hash,
            "scorer_tokenizer": type(kind).__name__,
            "scorer_vocab": int(self.model.config.vocab_size),
        }

    def score(self, texts: Sequence[str], on_batch: Callable[[int], None] = lambda texts: None) -> ScorerOutput:
        """NLL of each text that is not empty.

        Args:
            texts: decoded texts; EOS_TEXT marks an EOS inside, where the token weighting keeps special tokens.
            on_batch: callback with the number of texts of each batch.
        """
        room = self.max_length - len(self.prefix_ids)
        full = [i for i, text in enumerate(texts) if text.replace(EOS_TEXT, "").strip()]
        encoded = dict(zip(full, self.encode([texts[i] for i in full]), strict=True))
        ids = {i: row[:room] for i, row in encoded.items() if row[:room]}
        sums = self.weighted_nlls(list(ids.values()), on_batch)
        counted = self.weighting.num_counted(len(texts), self.batch_size)
        dropped = torch.tensor([i >= counted for i in ids], dtype=torch.bool)
        broken = ~sums[0].isfinite() & ~dropped
        nll, tokens, text_nll = sums.masked_fill(dropped | broken, 0)
        characters = self.spelled_characters(texts, encoded, ids).masked_fill(dropped | broken, 0)
        truncated, lost = sum(len(row) > room for row in encoded.values()), (int(dropped.sum()), int(broken.sum()))
        counts = (len(texts) - len(ids), self.weighting.average_over, truncated, *lost)
        return ScorerOutput(list(ids.values()), nll, tokens, *counts, text_nll, characters)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts, with the EOS inside them where the token weighting keeps special tokens."""
        if not self.weighting.keep_special_tokens:
            return self.tokenizer.encode(texts)
        parts = [text.split(EOS_TEXT) for text in texts]
        rows = iter(self.tokenizer.encode([part for each in parts for part in each]))
        joined = [[id for _ in each for id in [self.tokenizer.eos, *next(rows)]] for each in parts]
        return [row[1:] for row in joined]

    def spelled_characters(
        self, texts: Sequence[str], encoded: dict[int, list[int]], kept: dict[int, list[int]]
    ) -> Tensor:
        """Characters that the scored tokens of each text spell: all but those of a cut end and of a first token without
        context, float64 [N]."""
        cut = {i: row if len(row) < len(encoded[i]) else [] for i, row in kept.items()}
        whole = [0 if cut[i] else len(texts[i].replace(EOS_TEXT, "")) for i in kept]
        first = [[] if self.weighting.prepend_bos else row[:1] for row in kept.values()]
        lengths = [torch.tensor([len(text) for text in self.spell(rows)]) for rows in (list(cut.values()), first)]
        return (torch.tensor(whole) + lengths[0] - lengths[1]).double()

    def spell(self, ids: list[list[int]]) -> list[str]:
        """Texts of rows of ids, without EOS."""
        return self.tokenizer.decode_ids([[id for id in row if id != self.tokenizer.eos] for row in ids])

    def weighted_nlls(self, ids: list[list[int]], on_batch: Callable[[int], None]) -> Float[Tensor, "3 N"]:
        """Weighted NLL, weights, and NLL of the scored tokens of texts, float64."""
        sums = torch.zeros(3, len(ids), dtype=torch.float64)
        longest = max(map(len, ids), default=0)
        for rows in self.batches(ids):
            sums[:, rows] = self.batch_nlls([ids[row] for row in rows], longest)
            on_batch(len(rows))
        return sums

    @torch.no_grad()
    def features(self, ids: list[list[int]]) -> Float[Tensor, "N d"]:
        """The last hidden state of each text (of at least one token) at its last token, float32, as used by MAUVE."""
        features = torch.zeros(len(ids), int(self.model.config.hidden_size))
        for rows in self.batches(ids):
            padded = self.pad_rows([ids[row] for row in rows], max(len(ids[row]) for row in rows)).to(self.device)
            hidden = self.model(input_ids=padded, use_cache=False, output_hidden_states=True).hidden_states[-1]
            last = torch.tensor([len(ids[row]) - 1 for row in rows])
            features[rows] = hidden[torch.arange(len(rows)), last].float().cpu()  # [B, L, d] -> [B, d]
        return features

    def batches(self, ids: list[list[int]]) -> Iterator[list[int]]:
        """Row numbers, batch by batch, long rows first so that little is padded."""
        order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    @torch.no_grad()
    def batch_nlls(self, rows: list[list[int]], longest: int) -> Float[Tensor, "3 B"]:
        """As `weighted_nlls`, of a batch; a causal model needs no mask where the padding is on the right."""
        rows, longest = [self.prefix_ids + row for row in rows], longest + len(self.prefix_ids)
        lengths = torch.tensor([len(row) for row in rows])
        width = min(int(lengths.max()) + 1, self.max_length)
        ids = self.pad_rows(rows, width)
        mask = self.weighting.scored_mask(lengths, width, longest, self.max_length)
        weights = self.weighting.weights(ids, mask, self.tokenizer.eos).double()
        nll = token_nll(self.model(input_ids=ids.to(self.device), use_cache=False).logits, ids.to(self.device)).cpu()
        nll = torch.where(weights > 0, nll, 0)
        return torch.stack([(nll * weights).sum(1), weights.sum(1), nll.sum(1)])

    def pad_rows(self, rows: list[list[int]], width: int) -> Tensor:
        """Rows as [B, width], EOS on the right."""
        return torch.tensor([row + [self.tokenizer.eos] * (width - len(row)) for row in rows])
