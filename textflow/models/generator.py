"""Generator: teachers, students and escapes; a net trained by an objective on a codec's latents, and its samples."""

import math
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from textflow.codecs import Codec, encode_batch
from textflow.distill import StepDistillation
from textflow.escapes import Escape, NoEscape
from textflow.layers.frozen import Frozen
from textflow.models.base import LRSchedulerFn, OptimizerFn
from textflow.models.fitted_schedules import build_schedules, fit_schedules, time_schedules
from textflow.models.sampling import GeneratorSampling
from textflow.nets import Denoiser
from textflow.objectives import Objective
from textflow.paths import LinearPath, ProbPath
from textflow.readouts import FromNet, MatchedFromNet, Readout, View
from textflow.runtime.device import bf16_warning
from textflow.runtime.rank_zero import rank_zero_warn
from textflow.samplers import AllAtOnce, EarlyExit, Euler, Order, Sampler
from textflow.schedules import TimeSchedule
from textflow.training import MuonAdam, WarmupLR
from textflow.types import Batch, Posterior


class Generator(GeneratorSampling):
    """Noise -> latents -> text. A trainable codec or readout becomes a part of the net, so that optimizer, moving
    average, checkpoints and engines treat them as one.

    Args:
        vocab_size: number of tokens (from the tokenizer).
        codec: makes the codec, text <-> latents; it is frozen, unless it is trainable.
        net: makes the denoising network from the codec.
        objective: training loss of the net.
        path: probability path from noise to latents; default: LinearPath().
        readout: rule that turns the last belief into tokens.
        token_readout: readout of p(token | z_t) before the last step, by which an escape commits.
        escape: categorical choice before the readout.
        sampler: rule for one sampling step.
        sampling_schedule: schedule of sampling times; default: the time schedule of the objective.
        self_cond_guidance: self-conditioning guidance scale of sampling; 1 is none.
        early_exit: rule by which settled samples skip the network; default: never.
        prompt_dropout: fraction of rows whose prompt is dropped in training, in [0, 1), for classifier-free guidance.
        optimizer: optimizer, made from pairs (name, parameter).
        lr_scheduler: learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average of the weights, in [0, 1).
        cfg_scale: scale of classifier-free guidance by prompts; default: 1, none. Others need prompt_dropout above 0.
        order: which latents are denoised together in sampling, all at once or block after block.
    """

    def __init__(
        self,
        vocab_size: int,
        codec: Callable[[int], Codec],
        net: Callable[[Codec], Denoiser],
        objective: Objective,
        path: ProbPath | None = None,
        readout: Readout = FromNet(),
        token_readout: Readout = MatchedFromNet(),
        escape: Escape = NoEscape(),
        sampler: Sampler = Euler(),
        sampling_schedule: TimeSchedule | None = None,
        self_cond_guidance: float = 1.0,
        early_exit: EarlyExit | None = None,
        prompt_dropout: float = 0.0,
        optimizer: OptimizerFn = lambda params: MuonAdam(params, lr=2e-3),
        lr_scheduler: LRSchedulerFn = lambda optimizer: WarmupLR(optimizer, warmup_steps=100),
        ema_decay: float = 0.999,
        cfg_scale: float | None = None,
        order: Order = AllAtOnce(),
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        if not 0 <= prompt_dropout < 1 or not math.isfinite(self_cond_guidance):
            found = f"prompt_dropout is {prompt_dropout}, self_cond_guidance {self_cond_guidance}"
            raise ValueError(f"{found}; needs a fraction in [0, 1) and a finite scale")
        codec_module = codec(vocab_size)
        self.frozen_codec = None if codec_module.trainable else codec_module.requires_grad_(False)
        denoiser = net(codec_module)
        readout.build(codec_module)
        objective.build(codec_module)
        if codec_module.trainable:
            denoiser.codec = codec_module
        if readout.trainable:
            denoiser.readout = readout
        self.own_readout = None if readout.trainable else readout
        self.set_net(denoiser)
        path = path or LinearPath()
        self.objective, self.path, self.token_readout, self.escape = objective, path, token_readout, escape
        self.sampler, self.order, self.early_exit = sampler, order, early_exit
        self.own_sampling_schedule = sampling_schedule
        self.self_cond_guidance, self.cfg_scale, self.prompt_dropout = self_cond_guidance, cfg_scale, prompt_dropout
        build_schedules(self, codec_module.vocab_size)
        self.train()

    @property
    def codec(self) -> Codec:
        """Codec of the samples: of the moving average, in the space that it samples in."""
        return self.ema_net.sampling_space(self.codec_of(self.ema_net))[1]

    @property
    def sampling_net(self) -> Denoiser:
        return self.ema_net.sampling_space(self.codec_of(self.ema_net))[0]

    def codec_of(self, net: nn.Module) -> Codec:
        """Codec of the net or of its moving average."""
        return self.frozen_codec or cast(Codec, net.codec)

    @property
    def readout(self) -> Readout:
        """Readout of the samples: one without weights, or the moving average of the one that is trained."""
        return self.own_readout or cast(Readout, self.ema_net.readout)

    @property
    def sampling_schedule(self) -> TimeSchedule:
        """Schedule of sampling times."""
        return self.own_sampling_schedule or self.objective.time_schedule

    def train(self, mode: bool = True) -> "Generator":
        """Set the training mode; a frozen codec stays in eval mode, so that its running statistics are frozen."""
        super().train(mode)
        if self.frozen_codec is not None:
            self.frozen_codec.eval()
        return self

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        batch, denoiser, codec = self.drop_prompts(batch), cast(Denoiser, net), self.codec_of(net)
        losses = self.objective(denoiser, codec, self.path, batch, self.global_step)
        if self.own_readout is not None:
            return losses
        x = encode_batch(codec, batch).detach()
        view = View(x, self.path.t_max, Posterior(x), self.path, codec, denoiser)
        nll = cast(Readout, net.readout).nll(view, batch.ids, batch.mask)
        return losses | {"loss": losses["loss"] + nll, "readout_nll": nll.detach()}

    def drop_prompts(self, batch: Batch) -> Batch:
        """The batch with prompts marked as dropped in a random fraction of its rows."""
        if batch.prompt_mask is None:
            return batch
        return batch._replace(dropped=torch.rand(len(batch.ids), device=batch.ids.device) < self.prompt_dropout)

    def load_codec(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the codec of a trained Autoencoder from the tensors of its model.safetensors."""
        state = {name.removeprefix("net."): tensor for name, tensor in tensors.items() if name.startswith("net.")}
        try:
            for net in (self.net, self.ema_net):
                self.codec_of(net).load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"the trained codec does not fit model.codec of this recipe: {error}") from error
        self.objective.build(self.codec_of(self.net))

    def trained_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Trained parameters by name: the net's, and a learned schedule's, which are not averaged."""
        own = [(f"objective.{name}", p) for name, p in self.objective.named_parameters() if p.requires_grad]
        return super().trained_parameters() + own

    def learn_from(self, teacher: "Generator", init: "Generator") -> None:
        """Learn from a teacher's averaged net, codec (then frozen) and fitted schedules, from `init`'s average on."""
        if self.frozen_codec is not None:
            self.frozen_codec.load_state_dict(teacher.codec_of(teacher.ema_net).state_dict())
        self.ema_net.init_from(init.ema_net.student_weights())
        self.net.load_state_dict(self.ema_net.state_dict())
        for net in (self.net, self.ema_net):
            codec = self.codec_of(net)
            codec.requires_grad_(False)
            codec.trainable = False  # its latents are the teacher's
        teacher.ema_net.use_backend_of(self.net)
        self.objective.set_teacher(teacher.objective, teacher.ema_net)
        self.objective.requires_grad_(False)  # a learned schedule is the teacher's
        if isinstance(self.objective, StepDistillation):
            self.objective.ema_net, self.objective.embed = Frozen(self.ema_net), self.embed

    def on_fit_start(self, dry_run: bool = False) -> None:
        """Require a trained codec, and fit time schedules to the data; a dry run needs neither."""
        half = isinstance(self.objective, StepDistillation) and self.objective.teacher_precision == "bf16"
        if half and (slow := bf16_warning(self.device.type)):
            rank_zero_warn(f"objective.teacher_precision bf16: {slow}; same is not")
        schedules = self.unfitted_schedules()
        with self.average_context():
            if self.codec.is_trained or self.codec.trainable:
                fit_schedules(self, self.data_batch(128), [s for s in schedules if not s.needs_denoiser])
            elif dry_run:
                for schedule in schedules:
                    schedule.assume_uniform()
            else:
                name = type(self.codec).__name__
                raise ValueError(f"the codec {name} is not trained: name its recipe or its run with --codec")

    def unfitted_schedules(self) -> list[TimeSchedule]:
        """Time schedules that are not fitted yet."""
        return [schedule for schedule in time_schedules(self) if not schedule.fitted]

    def sample_texts(self, n: int) -> list[str]:
        """Texts for a preview during training; schedules that depend on the denoiser are fitted again first."""
        if schedules := [schedule for schedule in time_schedules(self) if schedule.needs_denoiser]:
            fit_schedules(self, self.data_batch(32, held_out=True), schedules)
        return super().sample_texts(n)
