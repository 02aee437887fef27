"""What a scorer found in texts."""

from typing import NamedTuple

from torch import Tensor


class Scored(NamedTuple):
    """What a scorer found in texts.

    Args:
        ids: its own tokens of each text that is not empty, cut at its length.
        nll: weighted sum of token NLL of each, nats, float64 [N].
        tokens: sum of weights of each, float64 [N]; 0 where nothing could be scored or the counting drops the text.
        empty: number of texts without a token; they are skipped.
        mean: perplexity of the `corpus`, or the mean over that of each `sample`.
        cut: number of texts that are longer than the scorer's length.
        dropped: number of texts in an incomplete last batch that the counting leaves out.
        broken: number of texts whose NLL is not finite (float16 overflows); they count nothing.
    """

    ids: list[list[int]]
    nll: Tensor
    tokens: Tensor
    empty: int
    mean: str = "corpus"
    cut: int = 0
    dropped: int = 0
    broken: int = 0

    @property
    def unscored(self) -> int:
        """Number of texts that have tokens, but none to score: of one token, which has no context."""
        return int((self.tokens == 0).sum()) - self.dropped - self.broken

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
