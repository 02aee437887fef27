"""Numbers that need more than texts and a scorer: memorisation, MAUVE, token recovery."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from textflow.metrics import Interval, Remembered, Scorer, mauve, token_recovery
from textflow.metrics.divergence import enough
from textflow.types import Batch

Ids = Sequence[Sequence[int]]


class Beside:
    """What stands beside perplexity and entropy; called with the generator's and the scorer's tokens of samples.

    Args:
        data: data module of the run, whose training text is looked through for 4-grams; None leaves memorisation out.
        scorer: gives the features of MAUVE.
        real: real texts for MAUVE; None leaves it out.
        least: samples, and as many real texts, that MAUVE needs.
    """

    def __init__(
        self, data: Any = None, scorer: Scorer | None = None, real: Sequence[str] | None = None, least: int = 5000
    ) -> None:
        self.data, self.scorer, self.least = data, scorer, least
        self.real: Float[Tensor, "N d"] | None = None
        if scorer is not None and real is not None:
            enough(len(real), len(real), least)
            self.real = scorer.features(filled(scorer, scorer.encode(list(real[:least])), least))

    def __call__(self, own: Ids | None, scored: Ids) -> dict[str, Interval]:
        found = {} if own is None or self.data is None else {"memory": memory(own, self.data)}
        if self.real is not None and self.scorer is not None:
            rows = filled(self.scorer, scored, len(scored if own is None else own))[: len(self.real)]
            found["mauve"] = mauve(self.scorer.features(rows), self.real, self.least)
        return found


def filled(scorer: Scorer, ids: Ids, n: int) -> list[list[int]]:
    """The scorer's tokens of n texts, as it reads them; an empty one is its EOS alone.

    Args:
        scorer: that reads.
        ids: of each text, perhaps without the empty ones.
        n: number of texts.
    """
    rows = [list(row[: scorer.length]) or [scorer.tokenizer.eos] for row in ids]
    return rows + [[scorer.tokenizer.eos]] * (n - len(rows))


def memory(ids: Ids, data: Any, rows: int = 1024) -> Interval:
    """Share of the 4-grams of samples, each cut at its first EOS, that stand in the training text.

    Args:
        ids: the generator's tokens.
        data: data module, set up.
        rows: of training text at once.
    """
    kept = Remembered([spoken(row, data.tokenizer) for row in ids], data.vocab)
    for start in range(0, len(data.rows), rows):
        packed = data.rows.__getitem__(range(start, min(start + rows, len(data.rows))))
        kept.read(packed.ids.long(), packed.lengths)
    return kept.share()


def spoken(row: Sequence[int], tokenizer: Any) -> list[int]:
    """Tokens before the first EOS, without pads."""
    text = list(row)
    text = text[: text.index(tokenizer.eos)] if tokenizer.eos in text else text
    return [token for token in text if token != tokenizer.pad]


@torch.no_grad()
def recovery(generator: Any, batch: Batch, rows: int = 8) -> Interval:
    """Share of the tokens of real text that the codec reads back out of its own latents.

    Args:
        generator: with a codec.
        batch: real text.
        rows: at once.
    """
    found = [read(generator, part) for part in parts(batch, rows)]
    return token_recovery(torch.cat(found), batch.ids.cpu(), batch.mask.cpu())


def read(generator: Any, batch: Batch) -> Tensor:
    """Tokens [B, L] of the readout of the codec's own latents."""
    here: Callable[[Tensor], Tensor] = lambda part: part.to(generator.device)  # noqa: E731
    ids, mask = here(batch.ids), here(batch.mask)
    tokens: Tensor = generator.codec.readout(generator.codec.encode(ids, mask)).argmax(-1).cpu()
    return tokens


def parts(batch: Batch, rows: int) -> Iterator[Batch]:
    """A batch in pieces."""
    for start in range(0, len(batch.ids), rows):
        yield batch.each(lambda part, start=start: part[start : start + rows])  # type: ignore[misc]
