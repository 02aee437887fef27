"""Loopholing (2510.19304): hidden states pass from step to step beside the tokens, so that no draw loses them."""

import torch
from torch import nn

from textflow.discrete.denoiser import HiddenStates, TokenDiT
from textflow.types import Ids, Logits, Times


class LoopholingDiT(TokenDiT):
    """h = f(E[tokens] + LN(h of the pass before), time), and token logits from h (Loopholing, 2510.19304); a sampler's
    first pass has h = 0. It is trained by the objectives of MDLM and Duo, and sampled by their samplers.

    The loss is that of a second pass. In training its h is, with probability `carry_prob` a row, that of a first pass
    from h = 0, without gradient, and else 0. Outside training it is always that of the first pass: the validation loss
    is the bound on -log p(text) of a sampler that passes twice at each step and carries nothing from step to step. The
    sampler that carries h has another law; its bound would need the states of a whole trajectory [ours].

    LN has no bias, and its gain is 0 at first, so that training starts at the net without loopholing [ours].

    Args:
        vocab_size: number of token states (from the tokenizer and the process; a mask is the last).
        width: width of the hidden states.
        depth: number of blocks.
        heads: number of attention heads.
        cond_width: width of the time embedding that modulates the norms.
        dropout: dropout rate in each block's branches, in [0, 1).
        carry_prob: probability that a row is trained on its own hidden states, in [0, 1] (Loopholing: 0.5 to 0.9 are
            best); 0 is TokenDiT.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        cond_width: int = 128,
        dropout: float = 0.1,
        carry_prob: float = 0.9,
    ) -> None:
        super().__init__(vocab_size, width, depth, heads, cond_width, dropout)
        if not 0 <= carry_prob <= 1:
            raise ValueError(f"carry_prob is {carry_prob}: LoopholingDiT needs a probability in [0, 1], such as 0.9")
        self.carry_prob, self.carries_states = carry_prob, carry_prob > 0
        self.carry_norm = nn.LayerNorm(width, bias=False)
        nn.init.zeros_(self.carry_norm.weight)

    def forward(self, tokens: Ids | Logits, sigma: Times, states: HiddenStates | None = None) -> HiddenStates:
        """Hidden states; arguments as in `TokenDiT`.

        Args:
            states: hidden states of the pass before [B, L, width]; default: those of a first pass.
        """
        x = self.embed(tokens)
        if self.carries_states:
            x = x + self.carry_norm(self.first_states(x, sigma) if states is None else states)
        return self.hidden_states(x, sigma)

    def next_states(self, tokens: Ids, sigma: Times, states: HiddenStates | None) -> HiddenStates:
        return self(tokens, sigma, torch.zeros_like(self.embed(tokens)) if states is None else states)

    @torch.no_grad()
    def first_states(self, x: HiddenStates, sigma: Times) -> HiddenStates:
        """Hidden states of a first pass from h = 0; in training those of rows that are not drawn are 0."""
        first = self.hidden_states(x, sigma)  # of all rows, so that shapes are fixed and no host waits for a GPU
        if not self.training:
            return first
        carries = torch.rand(len(x), 1, 1, device=x.device) < self.carry_prob
        return torch.where(carries, first, 0.0)
