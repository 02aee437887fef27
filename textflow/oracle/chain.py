"""Chain: a hidden Markov prior over texts with exact likelihood, posterior and sampling."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textflow.noise import Noise
from textflow.types import Ids, Logits

TINY = 1e-300  # lower clamp of float64 divisors
MIN_LOG_LIK = -600.0  # log-likelihoods below the best token's are clamped, so that exp stays above 0


class Chain(nn.Module):
    """p(y) of a hidden Markov chain whose states each emit one token, in float64.

    Args:
        initial: law of the first state, [N].
        transition: [N, N]; row i is the law of the state after i.
        emission: token emitted by each state, [N]; default: the state index.
        topic: topic of each state, constant within a text, [N]; default: one topic.
        legal: True for transitions not due to smoothing alone, [N, N]; default: all with positive probability.
    """

    initial: Tensor
    transition: Tensor
    emission: Tensor
    topic: Tensor
    legal: Tensor

    def __init__(
        self,
        initial: Float[Tensor, " N"],
        transition: Float[Tensor, "N N"],
        emission: Int[Tensor, " N"] | None = None,
        topic: Int[Tensor, " N"] | None = None,
        legal: Bool[Tensor, "N N"] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("initial", initial.double())
        self.register_buffer("transition", transition.double())
        self.register_buffer("emission", torch.arange(len(initial)) if emission is None else emission)
        self.register_buffer("topic", torch.zeros_like(self.emission) if topic is None else topic)
        self.register_buffer("legal", transition > 0 if legal is None else legal)
        self.vocab_size = int(self.emission.max()) + 1

    def nll(self, ids: Ids) -> Float[Tensor, "B L"]:
        """-log p(y_l | y_<l) in nats, infinite for impossible texts."""
        return -self._filter(self._emission_likelihood(ids))[1]

    def posterior(self, loglik: Logits) -> Float[Tensor, "B L V"]:
        """gamma = p(y_l = v | evidence) by scaled forward-backward.

        Args:
            loglik: log p(evidence at l | y_l = v), up to a constant per position.
        """
        lik = self._state_likelihood(loglik)
        forward, backward = self._filter(lik)[0], torch.ones_like(lik[:, 0])
        states: list[Tensor] = []
        for position in reversed(range(lik.shape[1])):
            both = forward[:, position] * backward
            states.append(both / both.sum(-1, keepdim=True).clamp_min(TINY))
            backward = (lik[:, position] * backward) @ self.transition.T
            backward = backward / backward.amax(-1, keepdim=True).clamp_min(TINY)
        one_hot = torch.eye(self.vocab_size, dtype=torch.float64, device=lik.device)[self.emission]  # [N, V]
        return torch.stack(states[::-1], 1) @ one_hot

    def sample_posterior(self, loglik: Logits, noise: Noise) -> Ids:
        """Sample texts jointly from p(y | evidence): filter forward, sample backward.

        Args:
            loglik: log p(evidence at l | y_l = v), up to a constant per position; zeros give the prior.
            noise: one stream per row.
        """
        forward = self._filter(self._state_likelihood(loglik))[0]
        u = noise.uniform(loglik.shape[1]).to(forward.device)
        states = [sample_index(forward[:, -1], u[:, -1])]
        for position in reversed(range(loglik.shape[1] - 1)):
            states.append(sample_index(forward[:, position] * self.transition.T[states[-1]], u[:, position]))
        return self.emission[torch.stack(states[::-1], 1)]

    def most_likely_topic(self, ids: Ids) -> Int[Tensor, " B"]:
        """The most likely topic of each text (exact where topics stay within a text)."""
        last = self._filter(self._emission_likelihood(ids))[0][:, -1]
        mass = last.new_zeros(len(ids), int(self.topic.max()) + 1)
        return mass.index_add(1, self.topic, last).argmax(-1)

    def _emission_likelihood(self, ids: Ids) -> Float[Tensor, "B L N"]:
        return (self.emission == ids[..., None]).double()

    def _state_likelihood(self, loglik: Logits) -> Float[Tensor, "B L N"]:
        loglik = loglik.double()
        return (loglik - loglik.amax(-1, keepdim=True)).clamp_min(MIN_LOG_LIK).exp()[..., self.emission]

    def _filter(self, lik: Float[Tensor, "B L N"]) -> tuple[Float[Tensor, "B L N"], Float[Tensor, "B L"]]:
        """p(state_l | evidence up to l) and log p(evidence at l | evidence before)."""
        states, norms, predicted = [], [], self.initial.expand(len(lik), -1)
        for position in range(lik.shape[1]):
            joint = predicted * lik[:, position]
            norms.append(joint.sum(-1))
            states.append(joint / norms[-1].clamp_min(TINY)[:, None])
            predicted = states[-1] @ self.transition
        return torch.stack(states, 1), torch.stack(norms, 1).log()


def sample_index(weights: Float[Tensor, "... N"], u: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Sample from weights, normalised or not, by inversion.

    Args:
        weights: unnormalised probabilities, at least one above 0.
        u: uniform on (0, 1).
    """
    total = weights.cumsum(-1)
    return (total < u[..., None] * total[..., -1:]).sum(-1)
