"""Flow maps hear where each step ends; whoever does not listen is asked as before."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from textflow.codecs import EmbeddingTable, LatentSpace
from textflow.diagnostics.sampler_steps import record_steps
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.readouts import FromCodec
from textflow.samplers import Ancestral, EarlyExit, Euler, Reinject, Sampler, sample
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
    made = Generator(VOCAB, lambda vocab: EmbeddingTable(vocab, DIM), lambda codec: net, ELFObjective(), **options)
    made.own_sampling_schedule, made.seq_length = Uniform(), 5
    return made.eval()


def heard(model: Generator, **options: Any) -> list[tuple[float, float | None]]:
    """(t, until) of the calls that denoise."""
    asked, net = [], model.ema_net
    forward = net.forward

    def noted(z: Latents, t: torch.Tensor, cond: Conditioning = Conditioning()) -> Posterior:
        asked.append((float(t[0]), None if cond.end_time is None else float(cond.end_time[0])))
        return forward(z, t, cond)

    net.forward = noted  # type: ignore[method-assign]
    model.sample([1, 2], 4, **options)
    return asked


def test_every_step_tells_the_net_its_end() -> None:
    assert heard(generator(elf()), sampler=Euler()) == list(pairwise(TIMES))
    assert heard(generator(elf()), sampler=Ancestral(), escape=Commit()) == list(pairwise(TIMES))
    assert [until for _, until in heard(generator(elf()), sampler=Reinject(0.4))] == TIMES[1:]


def test_so_does_a_prompted_and_an_early_stopped_run() -> None:
    model, fixed = generator(elf()), torch.arange(5).expand(2, 5) < 2
    prompt = Prompt(torch.zeros(2, 5, DIM), fixed)
    assert [until for _, until in heard(model, prompt=prompt)] == TIMES[1:]
    stopped = generator(elf(), early_exit=EarlyExit(1e9), token_readout=FromCodec())
    assert [until for _, until in heard(stopped)] == TIMES[1:]


def test_so_do_the_maps_that_stiffness_differentiates() -> None:
    model, asked = generator(elf(two_time=True)), []
    forward = model.ema_net.forward
    model.ema_net.forward = lambda z, t, given=Conditioning(): asked.append(given.end_time) or forward(z, t, given)  # type: ignore
    z, noise = model.initial_noise([1])
    record_steps(
        lambda streams: model.denoiser(noise=streams),
        Euler(),
        model.path,
        TIMES,
        z,
        noise,
        final_denoise=model.denoiser(),
    )
    assert [float(until[0]) for until in asked] == TIMES[1:]


@pytest.mark.parametrize("sampler", [Euler(), Reinject(1.0), Ancestral()], ids=str)
def test_who_does_not_listen_is_asked_as_before(sampler: Sampler) -> None:
    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return Posterior(torch.tanh(z))

    z = Noise([1]).normal(3, 2)
    trace = sample(denoise, sampler, LinearPath(), TIMES, z, Noise([2]))
    assert len(trace.beliefs) == 4


def test_a_student_begins_as_its_teacher_whatever_the_end() -> None:
    teacher, student = elf(), elf(1, two_time=True, commitment_head=True)
    student.init_from(teacher.state_dict())
    z, t = torch.randn(4, 5, DIM), torch.rand(4)
    given = Conditioning(guidance=torch.ones(4), self_cond=torch.randn(4, 5, DIM))
    for until in (None, t, t + (1 - t) / 2, torch.ones(4)):
        assert torch.equal(student(z, t, given._replace(end_time=until)).mean, teacher(z, t, given).mean)
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


def test_what_a_net_says_depends_on_the_length_once_it_learned_and_no_end_is_no_length() -> None:
    net = elf(two_time=True)
    assert net.end_t_embed is not None
    nn.init.normal_(net.end_t_embed.mlp[-1].weight, std=1.0)
    z, t = torch.randn(4, 5, DIM), torch.rand(4) / 2
    instant, none, far = (net(z, t, Conditioning(end_time=until)).mean for until in (t, None, t + 0.5))
    assert torch.equal(instant, none) and float((far - none).detach().abs().max()) > 1e-3
