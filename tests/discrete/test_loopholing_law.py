"""Loopholing on texts of a known law: carried states become the exact posterior."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from textflow.discrete import Absorbing, LoopholingDiT, MDLMSampler, TokenDenoiseFn
from textflow.noise import Noise
from textflow.oracle import Chain
from textflow.types import Ids

VOCAB, LENGTH = 6, 8


class Messages(LoopholingDiT):
    """Belief propagation along a chain, with the messages as states: each pass carries them one position further.

    Args:
        chain: law of the texts.
        hops: messages of a pass; as many as there are positions give the exact posterior.
        carried: whether a pass begins with the messages of the pass before.
    """

    def __init__(self, chain: Chain, hops: int, carried: bool) -> None:
        super().__init__(VOCAB + 1, 8, 1, 2, 4)
        self.chain, self.hops, self.carried = chain, hops, carried

    def next_states(self, tokens: Ids, sigma: Tensor, states: Tensor | None) -> Tensor:
        start = torch.ones(*tokens.shape, 2 * VOCAB).double()
        left, right = (start if states is None or not self.carried else states).chunk(2, -1)
        seen = torch.cat([torch.eye(VOCAB), torch.ones(1, VOCAB)]).double()[tokens]  # a mask tells nothing
        first, last = self.chain.initial.expand(len(tokens), 1, -1), start[:, :1, :VOCAB]
        for _ in range(self.hops):
            left = torch.cat([first, (left * seen)[:, :-1] @ self.chain.transition], 1)
            right = torch.cat([(right * seen)[:, 1:] @ self.chain.transition.T, last], 1)
            left, right = (side / side.sum(-1, keepdim=True) for side in (left, right))
        return torch.cat([left, right], -1)

    def lm_logits(self, hidden: Tensor) -> Tensor:
        left, right = hidden.chunk(2, -1)
        return F.pad((left * right).log(), (0, 1))


def make_chain() -> Chain:
    law = Noise([3]).uniform(VOCAB, VOCAB)[0] ** 6 + 0.02
    return Chain(torch.full((VOCAB,), 1 / VOCAB), law / law.sum(-1, keepdim=True))


def test_states_that_are_carried_become_the_exact_posterior_and_bring_samples_to_the_known_law() -> None:
    chain, rows, states, net = make_chain(), 256, None, Messages(make_chain(), 1, True)
    tokens = torch.tensor([[VOCAB, 2, VOCAB, VOCAB, VOCAB, VOCAB, VOCAB, 3]])
    for _ in range(LENGTH):
        states = net.next_states(tokens, torch.zeros(1), states)
    known = torch.zeros(1, LENGTH, VOCAB).double().masked_fill(F.one_hot(tokens, VOCAB + 1)[..., :-1] == 0, -1e3)
    known = known.masked_fill((tokens == VOCAB)[..., None], 0.0)
    found = net.lm_logits(states)[..., :-1].softmax(-1)
    torch.testing.assert_close(found[:, [0, 2, 3, 4, 5, 6]], chain.posterior(known)[:, [0, 2, 3, 4, 5, 6]])

    def nll(hops: int, carried: bool) -> Tensor:
        """-log p of samples in nats per token; a row has the same random numbers in all nets."""
        denoise = TokenDenoiseFn(Messages(chain, hops, carried), torch.zeros_like, Absorbing())
        start = torch.full((rows, LENGTH), VOCAB)
        ids = MDLMSampler().sample(denoise, start, [i / 16 for i in range(17)], Noise(range(rows)))
        return chain.nll(ids).mean(1)

    exact, carried, plain = nll(LENGTH, False), nll(1, True), nll(1, False)
    gain = (plain - exact) / 2 - (carried - exact)  # above 0: at most half as far from the exact posterior's samples
    assert float(gain.mean()) > 3 * float(gain.std()) / math.sqrt(rows)
