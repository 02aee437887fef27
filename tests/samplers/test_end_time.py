"""The end of a step as an input of the net, for flow maps."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from textflow.codecs import EmbeddingTable, LatentSpace
from textflow.diagnostics.sampler_steps import record_steps
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import ELF
from textflow.objectives import ELFObjective
from textflow.readouts import FromCodec
from textflow.samplers import Ancestral, EarlyExit, Euler, Reinject
from textflow.samplers.prompt import Prompt
from textflow.schedules import Uniform
from textflow.types import Conditioning, Latents, Posterior

VOCAB, DIM, TIMES = 11, 6, [0.0, 0.25, 0.5, 0.75, 1.0]


def elf(seed: int = 0, **options: Any) -> ELF:
    torch.manual_seed(seed)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=1, heads=2, bottleneck=8, **options)
    nn.init.normal_(net.out.weight, std=0.3)
    return net.eval()


def generator(net: ELF, **options: Any) -> Generator:
    model = Generator(VOCAB, lambda vocab: EmbeddingTable(vocab, DIM), lambda codec: net, ELFObjective(), **options)
    model.own_sampling_schedule, model.text_format = Uniform(), TextFormat(seq_length=5)
    return model.eval()


def record_times(model: Generator) -> list[tuple[float, float]]:
    """(t, end_time) of the calls of the net from now on."""
    times, forward = list[tuple[float, float]](), model.ema_net.forward

    def recording(z: Latents, t: torch.Tensor, cond: Conditioning = Conditioning()) -> Posterior:
        assert cond.end_time is not None
        times.append((float(t[0]), float(cond.end_time[0])))
        return forward(z, t, cond)

    model.ema_net.forward = recording  # type: ignore[method-assign]
    return times


@pytest.mark.integration
@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ({}, {"sampler": Euler()}),
        ({}, {"sampler": Ancestral(), "escape": Commit()}),
        ({}, {"sampler": Reinject(0.4)}),
        ({}, {"prompt": Prompt(torch.zeros(2, 5, DIM), torch.arange(5).expand(2, 5) < 2)}),
        ({"early_exit": EarlyExit(1e9), "token_readout": FromCodec()}, {}),
    ],
)
def test_the_net_gets_the_end_of_every_step(parts: dict[str, Any], options: dict[str, Any]) -> None:
    model = generator(elf(), **parts)
    times = record_times(model)
    model.sample([1, 2], 4, **options)
    assert [end for _, end in times] == TIMES[1:]
    assert not isinstance(options.get("sampler"), Euler | Ancestral) or times == list(pairwise(TIMES))


def test_the_net_gets_the_end_of_the_steps_that_stiffness_differentiates() -> None:
    model = generator(elf(two_time=True))
    times, (z, noise), final = record_times(model), model.initial_noise([1]), model.denoiser()
    record_steps(lambda noise: model.denoiser(noise=noise), Euler(), model.path, TIMES, z, noise, final_denoise=final)
    assert [end for _, end in times] == TIMES[1:]


def test_a_student_begins_as_its_teacher_whatever_the_end() -> None:
    teacher, student = elf(), elf(1, two_time=True, commitment_head=True)
    student.init_from(teacher.state_dict())
    z, t = torch.randn(4, 5, DIM), torch.rand(4)
    cond = Conditioning(guidance=torch.ones(4), self_cond=torch.randn(4, 5, DIM))
    for end in (None, t, t + (1 - t) / 2, torch.ones(4)):
        assert torch.equal(student(z, t, cond._replace(end_time=end)).mean, teacher(z, t, cond).mean)
    assert torch.equal(student.decode_logits(z, t), teacher.decode_logits(z, t))


def test_a_student_of_another_net_is_refused() -> None:
    with pytest.raises(ValueError, match="no counterpart"):
        elf(time_tokens=2).init_from(elf().state_dict())
    with pytest.raises(ValueError, match=r"end_t_embed\..*it may only add"):
        elf().init_from(elf(two_time=True).state_dict())
    lacking = elf().state_dict()
    del lacking["out.weight"]
    with pytest.raises(ValueError, match="1 weights of ELF have no counterpart"):
        elf(two_time=True).init_from(lacking)


def test_a_trained_prediction_depends_on_the_length_of_the_step_and_no_end_is_length_0() -> None:
    net = elf(two_time=True)
    assert net.end_t_embed is not None
    nn.init.normal_(net.end_t_embed.mlp[-1].weight, std=1.0)
    z, t = torch.randn(4, 5, DIM), torch.rand(4) / 2
    zero, none, long = (net(z, t, Conditioning(end_time=end)).mean for end in (t, None, t + 0.5))
    assert torch.equal(zero, none) and float((long - none).detach().abs().max()) > 1e-3
