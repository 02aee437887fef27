"""Scorer output: NLL and token counts of texts, and their perplexities; and what a protocol needs of a scorer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from textflow.metrics.intervals import Interval
from textflow.metrics.token_weights import TokenWeighting


class ScorerOutput(NamedTuple):
    """Likelihoods of a set of texts under a scorer.

    Args:
        ids: scorer tokens of each non-empty text, cut at the scorer's length.
        nll: weighted sum of token NLL of each text, nats, float64 [N].
        tokens: sum of token weights of each text, float64 [N]; 0 where no token is scored or the token
            weighting drops the text.
        empty: number of skipped texts without a token.
        average_over: perplexity of the `corpus`, or the mean over that of each `sample`.
        truncated: number of texts that are longer than the scorer's length.
        dropped: number of texts in an incomplete last batch that the token weighting leaves out.
        nonfinite: number of texts whose NLL is not finite (float16 overflows; a text outside a grammar); they are
            left out.
        text_nll: sum of the NLL of the scored tokens of each text, each once whatever its weight, nats, float64 [N].
        characters: number of characters of each text that its scored tokens spell, float64 [N].
    """

    ids: list[list[int]]
    nll: Tensor
    tokens: Tensor
    empty: int
    average_over: str = "corpus"
    truncated: int = 0
    dropped: int = 0
    nonfinite: int = 0
    text_nll: Tensor | None = None
    characters: Tensor | None = None

    @property
    def unscored(self) -> int:
        """Number of texts with tokens but none to score, such as a single token without context."""
        return int((self.tokens == 0).sum()) - self.dropped - self.nonfinite

    @property
    def perplexity(self) -> float | None:
        """exp(sum nll / sum tokens), or the mean over samples, by `average_over`; None where nothing was scored."""
        if self.tokens.sum() == 0:
            return None
        if self.average_over == "sample":
            return sum(self.sample_perplexities) / len(self.sample_perplexities)
        return float((self.nll.sum() / self.tokens.sum()).exp())

    @property
    def sample_perplexities(self) -> list[float]:
        """Perplexity of each text that has a scored token."""
        scored = self.tokens > 0
        return (self.nll[scored] / self.tokens[scored]).exp().tolist()


class TextScorer(ABC):
    """Source of the likelihoods of texts: a language model, or the law of a grammar.

    Args:
        name: name or folder.
        dtype: data type of the likelihoods before they are summed.
        max_length: maximum number of tokens of a text.
        token_weighting: name of `weighting`, the weights of tokens and their aggregation.
        revision: branch, tag or commit on the Hub.
    """

    name: str
    dtype: str
    max_length: int
    token_weighting: str
    weighting: TokenWeighting
    revision: str | None

    @abstractmethod
    def score(self, texts: Sequence[str], on_batch: Callable[[int], None] = lambda texts: None) -> ScorerOutput:
        """NLL of each text that is not empty.

        Args:
            texts: decoded texts.
            on_batch: callback with the number of texts of each batch.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Facts that the likelihoods depend on: `scorer_hash`, `scorer_tokenizer` and `scorer_vocab`."""

    def text_metrics(self, texts: Sequence[str]) -> dict[str, Interval]:
        """Further measures of the texts that only this scorer has; by default none."""
        return {}

    def protocol(self) -> dict[str, Any]:
        """Settings that two perplexities must share to be comparable."""
        return {
            "scorer": self.name,
            "scorer_revision": self.revision,
            "scorer_dtype": self.dtype,
            **self.identity(),
            "truncation": self.max_length,
            "token_weighting": self.token_weighting,
            "weights": self.weighting.rule,
            "scored_eos": self.weighting.eos_scoring,
            "scored_first": self.weighting.prepend_bos,
            "special_tokens": self.weighting.keep_special_tokens,
            "aggregation": self.weighting.aggregation,
        }
