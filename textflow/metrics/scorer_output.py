"""Scorer output: NLL and token counts of texts, and their perplexities."""

from typing import NamedTuple

from torch import Tensor


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
        nonfinite: number of texts whose NLL is not finite (float16 overflows); they are left out.
    """

    ids: list[list[int]]
    nll: Tensor
    tokens: Tensor
    empty: int
    average_over: str = "corpus"
    truncated: int = 0
    dropped: int = 0
    nonfinite: int = 0

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
