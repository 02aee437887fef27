"""Samples of a DiT of one-hot latents in the space of its table, against the published ones and the plain form."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.flm_nets import decode_error_schedule, dit, flm_path
from tests.helpers.recordings import error, part, recorded
from textflow.codecs import Codec, EmbeddingTable, OneHot, ProjectedOneHot
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import Denoiser, DiT
from textflow.noise import Noise
from textflow.objectives import FLMObjective
from textflow.readouts import FromPosterior, View
from textflow.reference.flm import reference_flm_sample
from textflow.samplers import EarlyExit, Euler, FlowMapChurn, Trace, sample
from textflow.schedules import OneHotDecodeError
from textflow.types import Conditioning, Latents, Posterior

DATA, META = recorded("flm")
PATH = flm_path(META["config"])
SIZES: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2, "cond_width": 4}


def published() -> tuple[DiT, OneHotDecodeError]:
    schedule = decode_error_schedule(META["config"])
    return dit(part(DATA, "flm.weights."), time_schedule=schedule).eval(), schedule


def small_net(vocab: int = 23, **options: Any) -> DiT:
    torch.manual_seed(0)
    net = DiT(OneHot(vocab), **SIZES, **options)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return net.eval()


def generator(vocab: int = 23, **options: Any) -> Generator:
    net = small_net(vocab)
    parts: dict[str, Any] = {
        "codec": OneHot,
        "net": lambda codec: net,
        "objective": FLMObjective(OneHotDecodeError(vocab)),
        "path": PATH,
        "readout": FromPosterior(),
        "token_readout": FromPosterior(),
    }
    return Generator(vocab, **(parts | options))


def euler(net: Denoiser, z: Tensor, times: list[float], sampler: Any = Euler(), noise: Any = None) -> Trace:
    def denoise(
        z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: object = None
    ) -> Posterior:
        end = None if t_next is None else z.new_full((len(z),), t_next)
        return net(z, z.new_full((len(z),), t), Conditioning(end_time=end))

    return sample(denoise, sampler, PATH, times, z, noise or Noise(range(len(z))))


@pytest.mark.integration
@pytest.mark.parity
@torch.no_grad()
@pytest.mark.parametrize("steps", META["config"]["steps"])
def test_samples_are_the_published_ones(steps: int) -> None:
    net, schedule = published()
    own = part(DATA, f"flm.sample.{steps}.")
    times = schedule.grid(steps)
    narrow, codec = net.sampling_space(OneHot(net.vocab_size))
    states, probs = zip(*reference_flm_sample(net, own["z"][0], times), strict=True)
    basis = codec.basis if isinstance(codec, ProjectedOneHot) else torch.eye(net.dim)  # a wide net keeps its space
    traces = [euler(space, own["z"][0] @ into, times) for space, into in ((net, torch.eye(net.dim)), (narrow, basis))]
    for k in range(steps):
        assert error(states[k], own["z"][k]) < 1e-5 and error(probs[k], own["p"][k]) < 1e-5
        assert error(traces[0].states[k], own["z"][k]) < 1e-5
        assert error(traces[0].beliefs[k].mean, own["p"][k]) < 1e-5
        assert error(traces[1].states[k], own["z"][k] @ basis) < 1e-5
        assert error(traces[1].beliefs[k].mean, own["p"][k] @ basis) < 1e-5
    for space, trace, latents in ((net, traces[0], OneHot(net.vocab_size)), (narrow, traces[1], codec)):
        view = View(trace.states[-1], trace.times[-1], trace.beliefs[-1], PATH, latents, space)
        assert torch.equal(FromPosterior().decode(view), own["ids"])
        assert error(FromPosterior().logits(view).softmax(-1), own["p"][-1]) < 1e-5


def bases(narrow: Denoiser) -> tuple[Denoiser, Tensor]:
    """A net in its table's space, and the basis of that."""
    codec = narrow.codec
    assert isinstance(codec, ProjectedOneHot)
    return narrow, codec.basis


@torch.no_grad()
def test_the_flow_with_churn_closes_in_the_table_space() -> None:
    net = small_net(two_time=True, logit_softcap=5.0)
    narrow, basis = bases(net.sampling_space(OneHot(23))[0])
    z, fresh = torch.randn(3, 5, 23), list(torch.randn(3, 3, 5, 23))

    class FixedNoise(Noise):
        def __init__(self, draws: list[Tensor]) -> None:
            self.draws = list(draws)

        def normal_like(self, z: Tensor) -> Tensor:
            return self.draws.pop(0)

    times = [0.0, 0.3, 0.5, 0.8, 1.0]
    wide = euler(net, z, times, FlowMapChurn(0.5), FixedNoise(fresh))
    close = euler(narrow, z @ basis, times, FlowMapChurn(0.5), FixedNoise([eps @ basis for eps in fresh]))
    for state, expected in zip([*close.states, close.z], [*wide.states, wide.z], strict=True):
        assert error(state, expected @ basis) < 1e-5


@torch.no_grad()
def test_noise_in_the_table_space_is_white() -> None:
    codec = small_net().sampling_space(OneHot(23))[1]
    assert isinstance(codec, ProjectedOneHot) and codec.dim == 8
    torch.testing.assert_close(codec.basis.T @ codec.basis, torch.eye(8))
    ids = torch.tensor([[3, 5]])
    assert torch.equal(codec.encode(ids), codec.basis[ids])
    assert torch.equal(codec.decode_logits(codec.encode(torch.arange(23)[None])).argmax(-1)[0], torch.arange(23))
    probs = torch.rand(2, 3, 23).softmax(-1)
    torch.testing.assert_close(codec.expected_latents(probs), probs @ codec.basis)


@torch.no_grad()
def test_a_generator_samples_there_and_follows_its_weights() -> None:
    model = generator()
    sample = model.sample([1, 2], 4, length=5)
    assert sample.trace.z.shape == (2, 5, 8) and sample.ids.shape == (2, 5)
    assert all(belief.logits is None for belief in sample.trace.beliefs)
    before = model.codec
    assert model.codec is before
    model.ema_net.get_parameter("embed").add_(torch.randn(23, 8))
    assert model.codec is not before
    assert torch.equal(sample.ids[1], generator().sample([2], 4, length=5).ids[0])


def test_narrow_latents_and_other_codecs_keep_their_space() -> None:
    for codec, net in ((OneHot(6), small_net(6)), (EmbeddingTable(23, 8), DiT(EmbeddingTable(23, 8), **SIZES))):
        found: tuple[Denoiser, Codec] = net.sampling_space(codec)
        assert found == (net, codec)


def test_an_early_exit_that_no_text_takes_changes_no_token() -> None:
    """The exit's own state stands where the belief carries hidden states."""
    plain, exiting = (generator(early_exit=rule).eval() for rule in (None, EarlyExit(1e9)))
    plain.text_format = exiting.text_format = TextFormat(seq_length=6)
    assert plain.sample([1, 2], 3).trace.z.shape[2] == 8
    assert torch.equal(exiting.sample([1, 2], 3).ids, plain.sample([1, 2], 3).ids)
