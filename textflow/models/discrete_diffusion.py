"""DiscreteDiffusion: masked diffusion over tokens (MDLM), the discrete baseline."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from textflow.discrete.mdlm import MDLM, subs_parameterization
from textflow.discrete.objective import MDLMObjective
from textflow.discrete.sampler import MDLMSampler
from textflow.models.base import Trainable
from textflow.models.generation import generate_texts
from textflow.models.infilling import preview_texts
from textflow.noise import Noise
from textflow.samplers import Sampler
from textflow.schedules import TimeSchedule, Uniform
from textflow.training import WarmupLR
from textflow.types import Batch, Ids, Logits, Mask


class DiscreteDiffusion(Trainable):
    """A masked diffusion language model, which unmasks many tokens at a time.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        net: makes the network from vocab_size.
        objective: training objective.
        sampler: rule that turns masks into tokens.
        sampling_schedule: schedule of the sampling times.
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    net: MDLM
    ema_net: MDLM

    def __init__(
        self,
        vocab_size: int,
        net: Callable[[int], MDLM],
        objective: MDLMObjective = MDLMObjective(),
        sampler: MDLMSampler = MDLMSampler(),
        sampling_schedule: TimeSchedule = Uniform(),
        optimizer: Callable[[Any], Optimizer] = lambda params: AdamW(params, lr=3e-4, weight_decay=0.0),
        lr_scheduler: Callable[[Optimizer], LRScheduler] = lambda optimizer: WarmupLR(optimizer, warmup_steps=2500),
        ema_decay: float = 0.9999,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        self.set_net(net(vocab_size))
        self.objective, self.sampler, self.sampling_schedule = objective, sampler, sampling_schedule

    def losses(self, net: Any, batch: Batch) -> dict[str, Tensor]:
        return self.objective(net, batch)

    def token_log_probs(self, ids: Ids, t: float) -> Logits:
        """log p(clean token | ids) of the averaged net [B, L, V + 1]; one-hot at unmasked positions.

        Args:
            ids: token ids, some masked [B, L].
            t: time in [0, 1]; 0 is fully masked, 1 is text.
        """
        return subs_parameterization(self.ema_net.lm_logits(self.hidden_states(ids, t)), ids, self.ema_net.mask_id)

    def hidden_states(self, ids: Ids, t: float) -> Float[Tensor, "B L width"]:
        """Hidden states of the averaged net."""
        time = torch.full((len(ids),), t, dtype=torch.float64, device=ids.device)
        return self.ema_net(ids, self.objective.network_sigma(time))

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        num_steps: int = 32,
        sampler: MDLMSampler | Sampler | None = None,
        length: int | None = None,
        sampling_schedule: TimeSchedule | None = None,
        ids: Ids | None = None,
    ) -> Ids:
        """Token ids [B, L], one sample a seed.

        Args:
            seeds: random seeds, one a sample.
            num_steps: number of steps; a text takes at most num_steps + 1 network passes.
            sampler: sampling rule; default: the recipe's.
            length: number of tokens; default: that of training.
            sampling_schedule: schedule of the times; default: the recipe's.
            ids: initial token ids [B, L], masked where there is no prompt; default: all masks.
        """
        self.eval()
        chosen, times = sampler or self.sampler, (sampling_schedule or self.sampling_schedule).grid(num_steps)
        if not isinstance(chosen, MDLMSampler):
            raise ValueError(
                f"a masked model samples by MDLMSampler, not by {type(chosen).__name__}; use --sampler recipe"
            )
        if ids is None:
            length = self.seq_length if length is None else length
            ids = torch.full((len(seeds), length), self.ema_net.mask_id, device=self.device)
        net, timed = self.ema_net, self.objective.time_conditioning
        return chosen.sample(self.hidden_states, net.lm_logits, ids, net.mask_id, times, Noise(seeds), timed)

    @torch.no_grad()
    def complete(
        self,
        ids: Ids,
        prompt_mask: Mask,
        seeds: list[int],
        num_steps: int = 32,
        sampler: MDLMSampler | Sampler | None = None,
        self_cond_guidance: float | None = None,
        cfg_scale: float | None = None,
        sampling_schedule: TimeSchedule | None = None,
    ) -> Ids:
        """Token ids [B, L] that complete prompts, sampled exactly from the model's own conditional distribution.

        Args:
            ids: token ids of a sample's length [B, L].
            prompt_mask: True on the prompt [B, L].
            seeds: random seeds, one a row.
            num_steps: number of steps.
            sampler: sampling rule; default: the recipe's.
            self_cond_guidance: must be None: a masked model has no guidance scale.
            cfg_scale: must be None, likewise.
            sampling_schedule: schedule of the times; default: the recipe's.
        """
        if self_cond_guidance is not None or cfg_scale is not None:
            raise ValueError("a masked model has no guidance scale; leave it out")
        return self.sample(
            seeds,
            num_steps,
            sampler,
            None,
            sampling_schedule,
            ids.masked_fill(~prompt_mask, self.ema_net.mask_id).to(self.device),
        )

    def generate(
        self,
        num_samples: int = 1,
        num_steps: int = 32,
        seed: int = 0,
        sampler: MDLMSampler | Sampler | None = None,
        self_cond_guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first_index: int = 0,
        sampling_schedule: TimeSchedule | None = None,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            num_samples: number of texts.
            num_steps: number of steps.
            seed: random seed of the run.
            sampler: sampling rule; default: the recipe's.
            self_cond_guidance: must be None: a masked model has no guidance scale.
            length: number of tokens; default: that of training.
            batch_size: number of texts in a batch.
            first_index: index of the first sample.
            sampling_schedule: schedule of the times; default: the recipe's.
        """
        if self_cond_guidance is not None:
            raise ValueError(
                f"self_cond_guidance is {self_cond_guidance}, but a masked model has no guidance scale; leave it out"
            )

        def sample_fn(seeds: list[int]) -> Ids:
            return self.sample(seeds, num_steps, sampler, length, sampling_schedule)

        return generate_texts(sample_fn, self.tokenizer, num_samples, seed, batch_size, first_index)

    def sample_texts(self, n: int) -> list[str]:
        """Texts for a preview during training."""
        return preview_texts(self, n)
