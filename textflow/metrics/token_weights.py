"""Countings: which tokens of a text are scored, how often, and how their sums become one perplexity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from textflow.types import Ids, Mask

Weights = Int[Tensor, "B L-1"]


def elf_weights(ids: Ids, eos: int) -> Weights:
    """[one EOS so far] + [not EOS]: tokens between the first and the second EOS count twice (ELF, released code)."""
    ended = (ids == eos).cumsum(1) == 1
    return (ended.long() + (ids != eos).long())[:, 1:]


def mdlm_weights(ids: Ids, eos: int) -> Weights:
    """[one EOS so far] or [not EOS] (MDLM, Duo, FLM)."""
    return elf_weights(ids, eos).clamp_max(1)


def plain_weights(ids: Ids, eos: int) -> Weights:
    """Every token once, an EOS too (LangFlow; Hugging Face's perplexity)."""
    return torch.ones_like(ids[:, 1:])


RULES: dict[str, Callable[[Ids, int], Weights]] = {"elf": elf_weights, "mdlm": mdlm_weights, "plain": plain_weights}


@dataclass(frozen=True)
class Counting:
    """What a published perplexity counts.

    Args:
        rule: weights of tokens: elf, mdlm or plain.
        eos: what is scored after a text: `close` an EOS wherever it fits, `pad` an EOS unless the text is the longest
            (padding is EOS and its first counts), `none` nothing.
        start: a beginning-of-text token stands before each text, so that its first token is scored.
        whole: an incomplete last batch is not counted.
        mean: perplexity of the `corpus`, exp(sum nll / sum tokens), or the mean over perplexities of each `sample`.
        special: special tokens are kept: an EOS inside a sample stands in its text.
    """

    rule: Literal["elf", "mdlm", "plain"] = "elf"
    eos: Literal["close", "pad", "none"] = "close"
    start: bool = False
    whole: bool = False
    mean: Literal["corpus", "sample"] = "corpus"
    special: bool = False

    def weights(self, ids: Ids, valid: Mask, eos: int) -> Weights:
        """How often each token after the first counts.

        Args:
            ids: tokens of the scorer, padded by EOS on the right.
            valid: True on tokens of the text and on the EOS that is scored after it.
            eos: id that ends a text.
        """
        return RULES[self.rule](ids, eos) * valid[:, 1:]

    def valid(self, lengths: Int[Tensor, " B"], width: int, longest: int, most: int) -> Bool[Tensor, "B width"]:
        """True on the tokens of each text and on the EOS scored after it.

        Args:
            lengths: tokens of each text.
            width: columns of the batch, the scored EOS included.
            longest: tokens of the longest text of all batches.
            most: tokens that a text is cut at.
        """
        room = {"close": most, "pad": longest, "none": 0}[self.eos]
        return torch.arange(width)[None] < (lengths + (lengths < room).long())[:, None]

    def counted(self, n: int, batch: int) -> int:
        """How many of n texts count, in batches of `batch`."""
        size = min(batch, n)
        return n // size * size if self.whole and size else n

    @property
    def aggregation(self) -> str:
        """In words, for a record."""
        kept = ", last batch dropped" if self.whole else ""
        said = {"corpus": "corpus: exp(sum nll / sum tokens)", "sample": "mean of exp(nll / tokens) of each sample"}
        return said[self.mean] + kept


COUNTINGS: dict[str, Counting] = {
    "local": Counting(),  # [ours]: ELF's weights; a text's score does not depend on the others
    "elf": Counting(eos="pad"),
    "mdlm": Counting("mdlm", "pad", whole=True),  # Duo and FLM too
    "langflow": Counting("plain", "none", special=True),
    "ld4lg": Counting("plain", "none", start=True, mean="sample"),
}


def find(name: str) -> Counting:
    """The counting of this name.

    Args:
        name: local, elf, mdlm, langflow or ld4lg.
    """
    if name not in COUNTINGS:
        raise ValueError(f"counting is {name!r}; known are {', '.join(COUNTINGS)}")
    return COUNTINGS[name]
