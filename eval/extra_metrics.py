"""Metrics that need more than texts and a scorer: memorisation, MAUVE, token recovery."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.metrics import Interval, NgramOverlap, Scorer, mauve, token_recovery
from textflow.metrics.divergence import check_num_texts
from textflow.types import Batch

Ids = Sequence[Sequence[int]]


class ExtraMetrics:
    """Metrics in addition to perplexity and entropy, from the generator's and the scorer's tokens of samples.

    Args:
        data: data module of the run, whose training text is searched for 4-grams; None: no memorisation.
        scorer: scorer of the samples.
        real_texts: real texts for MAUVE; None: no MAUVE.
        num_samples: number of samples, and of real texts, that MAUVE needs.
    """

    def __init__(
        self,
        data: Any = None,
        scorer: Scorer | None = None,
        real_texts: Sequence[str] | None = None,
        num_samples: int = 5000,
    ) -> None:
        self.data, self.scorer, self.num_samples = data, scorer, num_samples
        self.real_features: Float[Tensor, "N d"] | None = None
        if scorer is not None and real_texts is not None:
            check_num_texts(len(real_texts), len(real_texts), num_samples)
            ids = scorer.encode(list(real_texts[:num_samples]))
            self.real_features = scorer.features(scorer_inputs(scorer, ids, num_samples))

    def __call__(self, own: Ids | None, scored: Ids) -> dict[str, Interval]:
        results = {} if own is None or self.data is None else {"memorized_4grams": memorization(own, self.data)}
        if self.real_features is not None and self.scorer is not None:
            rows = scorer_inputs(self.scorer, scored, len(scored if own is None else own))[: len(self.real_features)]
            results["mauve"] = mauve(self.scorer.features(rows), self.real_features, self.num_samples)
        return results


def scorer_inputs(scorer: Scorer, ids: Ids, num_texts: int) -> list[list[int]]:
    """Scorer tokens of n texts; an empty text becomes a single EOS."""
    rows = [list(row[: scorer.max_length]) or [scorer.tokenizer.eos] for row in ids]
    return rows + [[scorer.tokenizer.eos]] * (num_texts - len(rows))


def memorization(ids: Ids, data: Any, batch_size: int = 1024) -> Interval:
    """Share of the samples' 4-grams, each sample cut at its first EOS, that occur in the training text."""
    overlap = NgramOverlap([strip_eos_and_pads(row, data.tokenizer) for row in ids], data.vocab_size)
    for start in range(0, len(data.rows), batch_size):
        packed = data.rows[range(start, min(start + batch_size, len(data.rows)))]
        overlap.update(packed.ids.long(), packed.lengths)
    return overlap.compute()


def strip_eos_and_pads(row: Sequence[int], tokenizer: Any) -> list[int]:
    """Tokens before the first EOS, without pads."""
    return [token for token in takewhile(lambda token: token != tokenizer.eos, row) if token != tokenizer.pad]


@torch.no_grad()
def codec_token_recovery(generator: Any, batch: Batch, batch_size: int = 8) -> Interval:
    """Share of real tokens that the codec recovers from its own latents."""
    codec, device = generator.codec, generator.device
    parts = zip(torch.split(batch.ids, batch_size), torch.split(batch.mask, batch_size), strict=True)
    latents = (codec.encode(ids.to(device), mask.to(device)) for ids, mask in parts)
    decoded = [codec.decode_logits(z).argmax(-1).cpu() for z in latents]
    return token_recovery(torch.cat(decoded), batch.ids.cpu(), batch.mask.cpu())
