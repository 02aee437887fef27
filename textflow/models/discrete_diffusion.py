"""DiscreteDiffusion: diffusion over tokens (MDLM, Duo)."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from textflow.discrete import DiscreteObjective, DiscreteSampler, MDLMObjective, MDLMSampler, TokenDenoiseFn, TokenDiT
from textflow.models.base import LRSchedulerFn, OptimizerFn
from textflow.models.generation import TextGenerator, refuse_guidance
from textflow.noise import Noise
from textflow.samplers import Sampler
from textflow.schedules import TimeSchedule, Uniform
from textflow.training import WarmupLR
from textflow.types import Batch, Ids, Logits, Mask


class DiscreteDiffusion(TextGenerator):
    """A language model by discrete diffusion, which chooses many tokens at a time.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        net: makes the network from the number of token states.
        objective: training objective, which names the process that corrupts tokens.
        sampler: sampling rule.
        sampling_schedule: schedule of the sampling times.
        optimizer: makes the optimizer from pairs (name, parameter).
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
    """

    net: TokenDiT
    ema_net: TokenDiT

    def __init__(
        self,
        vocab_size: int,
        net: Callable[[int], TokenDiT],
        objective: DiscreteObjective = MDLMObjective(),
        sampler: DiscreteSampler = MDLMSampler(),
        sampling_schedule: TimeSchedule = Uniform(),
        optimizer: OptimizerFn = lambda params: AdamW(params, lr=3e-4, weight_decay=0.0),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=2500),
        ema_decay: float = 0.9999,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        refuse_mismatch(objective, sampler, sampling_schedule)
        self.set_net(net(objective.process.num_states(vocab_size)))
        self.objective, self.sampler, self.sampling_schedule = objective, sampler, sampling_schedule

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return self.objective(cast(TokenDiT, net), batch, self.global_step)

    def learn_from(self, teacher: "DiscreteDiffusion", init: "DiscreteDiffusion") -> None:
        """Learn from a teacher, starting from the weights of another model.

        Args:
            teacher: model whose averaged net is the teacher.
            init: model whose averaged weights are the initial ones.
        """
        self.objective.set_teacher(teacher.objective, teacher.ema_net)
        for net in (self.net, self.ema_net):
            net.load_state_dict(init.ema_net.state_dict())

    def denoise_fn(self) -> TokenDenoiseFn:
        """The averaged network as a sampler calls it."""
        objective = self.objective
        return TokenDenoiseFn(self.ema_net, objective.network_sigma, objective.process, objective.time_conditioning)

    def token_log_probs(self, ids: Ids, t: float) -> Logits:
        """log p(clean token | corrupted tokens) of the averaged net [B, L, N].

        Args:
            ids: corrupted token ids [B, L].
            t: time in [0, 1]; 0 is noise, 1 is text.
        """
        sigma = self.objective.network_sigma(torch.full((len(ids),), t, dtype=torch.float64, device=ids.device))
        return self.objective.log_probs(self.ema_net.lm_logits(self.ema_net(ids, sigma)), ids)

    def initial_ids(self, length: int, noise: Noise) -> Ids:
        """Token ids at t = 0 [B, L], one row a stream of the noise."""
        rows = torch.zeros(len(noise.streams), length, dtype=torch.long, device=self.device)
        return self.objective.process.stationary(rows, self.ema_net.vocab_size, noise)

    @torch.no_grad()
    def sample(
        self,
        seeds: list[int],
        num_steps: int = 32,
        sampler: DiscreteSampler | Sampler | None = None,
        length: int | None = None,
        sampling_schedule: TimeSchedule | None = None,
        ids: Ids | None = None,
        prompt_mask: Mask | None = None,
    ) -> Ids:
        """Token ids [B, L], one sample per seed.

        Args:
            seeds: random seeds, one a sample.
            num_steps: number of steps; a text takes at most num_steps + 1 network passes.
            sampler: sampling rule; default: the recipe's.
            length: number of tokens; default: that of training.
            sampling_schedule: schedule of the times; default: the recipe's.
            ids: token ids of a prompt [B, L]; default: none.
            prompt_mask: True on the prompt [B, L].
        """
        self.eval()
        sampler, schedule = sampler or self.sampler, sampling_schedule or self.sampling_schedule
        times = schedule.grid(num_steps, t_min=0.0, t_max=1.0)
        if not isinstance(sampler, type(self.sampler)):
            raise ValueError(
                f"this model samples by {type(self.sampler).__name__}, not by {type(sampler).__name__}; use --sampler "
                "recipe"
            )
        if (ids is None) != (prompt_mask is None):
            raise ValueError("a prompt needs both ids and prompt_mask; give the missing one, or leave both out")
        if ids is not None:
            length = ids.shape[1]
        noise = Noise(seeds)
        start = self.initial_ids(self.text_format.seq_length if length is None else length, noise)
        if ids is not None and prompt_mask is not None:
            start = torch.where(prompt_mask.to(start.device), ids.to(start.device), start)
        return sampler.sample(self.denoise_fn(), start, times, noise, prompt_mask)

    def sample_ids(
        self, seeds: list[int], num_steps: int, self_cond_guidance: float | None = None, **options: Any
    ) -> Ids:
        refuse_guidance("a discrete diffusion model", self_cond_guidance)
        return self.sample(seeds, num_steps, **options)

    @torch.no_grad()
    def complete(
        self,
        ids: Ids,
        prompt_mask: Mask,
        seeds: list[int],
        num_steps: int = 32,
        sampler: DiscreteSampler | Sampler | None = None,
        self_cond_guidance: float | None = None,
        cfg_scale: float | None = None,
        sampling_schedule: TimeSchedule | None = None,
    ) -> Ids:
        """Token ids [B, L] that complete prompts, sampled exactly from the model's own conditional distribution.

        Args:
            self_cond_guidance: must be None: the model has no guidance scale.
            cfg_scale: must be None: the model has no guidance.

        The other arguments are those of `TextGenerator.complete` and `sample`.
        """
        refuse_guidance("a discrete diffusion model", self_cond_guidance, cfg_scale)
        return self.sample(seeds, num_steps, sampler, None, sampling_schedule, ids, prompt_mask)


def refuse_mismatch(objective: DiscreteObjective, sampler: DiscreteSampler, schedule: TimeSchedule) -> None:
    """Raise if the sampler undoes another process than the objective's, or if the schedule is that of a path of
    latents."""
    if not isinstance(objective.process, sampler.process):
        raise ValueError(
            f"{type(sampler).__name__} undoes the process {sampler.process.__name__}, but {type(objective).__name__} "
            f"corrupts tokens by {type(objective.process).__name__}; set model.sampler to its own"
        )
    if any(isinstance(part, TimeSchedule) and not part.fitted for part in schedule.modules()):
        raise ValueError(
            f"the schedule {type(schedule).__name__} is measured on latents, and a discrete diffusion model has none; "
            "use Uniform or LogitNormal"
        )
    if schedule.log_snr:
        raise ValueError(
            f"the schedule {type(schedule).__name__} draws log signal-to-noise ratios, but the times of a discrete "
            "diffusion model run from 0 to 1; use Uniform or LogitNormal"
        )
