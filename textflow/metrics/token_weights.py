"""Token weightings: the weight of each token in a perplexity, and the aggregation over texts."""

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


WEIGHT_RULES = {"elf": elf_weights, "mdlm": mdlm_weights, "plain": plain_weights}


@dataclass(frozen=True)
class TokenWeighting:
    """Token weights and aggregation of a published perplexity.

    Args:
        rule: weights of tokens: elf, mdlm or plain.
        eos_scoring: EOS scored after a text: `close` an EOS wherever it fits, `pad` an EOS unless the text is the
            longest (padding is EOS and its first counts), `none` nothing.
        prepend_bos: put a beginning-of-text token before each text, so that its first token is scored.
        drop_last: leave out an incomplete last batch.
        average_over: perplexity of the `corpus`, exp(sum nll / sum tokens), or the mean over perplexities of each
            `sample`.
        keep_special_tokens: keep special tokens, so that an EOS inside a sample is part of its text.
    """

    rule: Literal["elf", "mdlm", "plain"] = "elf"
    eos_scoring: Literal["close", "pad", "none"] = "close"
    prepend_bos: bool = False
    drop_last: bool = False
    average_over: Literal["corpus", "sample"] = "corpus"
    keep_special_tokens: bool = False

    def weights(self, ids: Ids, scored_mask: Mask, eos: int) -> Weights:
        """Weight of each token after the first.

        Args:
            ids: tokens of the scorer, padded by EOS on the right.
            scored_mask: True on tokens of the text and on the EOS that is scored after it.
            eos: id that ends a text.
        """
        return WEIGHT_RULES[self.rule](ids, eos) * scored_mask[:, 1:]

    def scored_mask(
        self, lengths: Int[Tensor, " B"], width: int, longest_text: int, max_length: int
    ) -> Bool[Tensor, "B width"]:
        """True on the tokens of each text and on the EOS scored after it.

        Args:
            lengths: number of tokens in each text.
            width: number of columns of the batch, the scored EOS included.
            longest_text: number of tokens in the longest text of all batches.
            max_length: maximum number of tokens of a text.
        """
        room = {"close": max_length, "pad": longest_text, "none": 0}[self.eos_scoring]
        return torch.arange(width)[None] < (lengths + (lengths < room).long())[:, None]

    def num_counted(self, n: int, batch_size: int) -> int:
        """Number of texts that count out of n, in batches of `batch_size`."""
        size = min(batch_size, n)
        return n // size * size if self.drop_last and size else n

    @property
    def aggregation(self) -> str:
        """Description of the aggregation, for a record."""
        corpus, sample = "corpus: exp(sum nll / sum tokens)", "mean of exp(nll / tokens) of each sample"
        suffix = ", last batch dropped" if self.drop_last else ""
        return (corpus if self.average_over == "corpus" else sample) + suffix


TOKEN_WEIGHTINGS: dict[str, TokenWeighting] = {
    "local": TokenWeighting(),  # [ours]: ELF's weights; a text's score does not depend on the others
    "elf": TokenWeighting(eos_scoring="pad"),
    "mdlm": TokenWeighting("mdlm", "pad", drop_last=True),  # Duo and FLM too
    "langflow": TokenWeighting("plain", "none", keep_special_tokens=True),
    "ld4lg": TokenWeighting("plain", "none", prepend_bos=True, average_over="sample"),
    "whole": TokenWeighting("plain", "none", prepend_bos=True),  # [ours]: every token of the text once
}


def find_weighting(name: str) -> TokenWeighting:
    """Look up a token weighting by name: local, elf, mdlm, langflow, ld4lg or whole."""
    if name not in TOKEN_WEIGHTINGS:
        raise ValueError(f"token_weighting is {name!r}; known are {', '.join(TOKEN_WEIGHTINGS)}")
    return TOKEN_WEIGHTINGS[name]
