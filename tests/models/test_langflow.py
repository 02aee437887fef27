"""A tiny LangFlow under everything that acts on samples: escapes, samplers, diagnostics."""

import math

import pytest
import torch

from tests.helpers.short_fits import LENGTH, VOCAB, fit, texts
from textflow.codecs import EmbeddingTable
from textflow.diagnostics import TextLikelihood
from textflow.diagnostics.base import diagnostic_inputs
from textflow.diagnostics.callbacks import DABI, RollIn, Tube
from textflow.diagnostics.likelihood import flow_nll
from textflow.diagnostics.sample_callbacks import CCI, Margins, Stiffness
from textflow.diagnostics.text_likelihood import scored_text
from textflow.escapes import Commit
from textflow.models.generator import Generator
from textflow.nets import LangFlow
from textflow.noise import Noise
from textflow.objectives import LangFlowObjective
from textflow.paths import VariancePreserving
from textflow.readouts import FromPosterior
from textflow.samplers import Ancestral, EarlyExit, Euler, FlowMapChurn, Heun, Reinject
from textflow.schedules import Gumbel, Uniform

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model() -> Generator:
    torch.manual_seed(0)
    made = Generator(
        VOCAB,
        codec=lambda vocab: EmbeddingTable(vocab, 8, trainable=True),
        net=lambda codec: LangFlow(codec, depth=1, heads=2, cond_width=8, dropout=0.0),
        objective=LangFlowObjective(Gumbel(1.0, 0.6, 2.0, trainable=True), ramp_steps=2),
        path=VariancePreserving(t_min=-6.0),
        readout=FromPosterior(),
        token_readout=FromPosterior(),
    )
    fit(made, 3)
    return made.eval()


def test_sampling_takes_as_many_calls_as_steps_and_reads_the_last_one(model: Generator) -> None:
    calls: list[float] = []
    hook = model.ema_net.register_forward_pre_hook(lambda _, args: calls.append(float(args[1][0])))
    sample = model.sample([1, 2], 5)
    hook.remove()
    assert calls == pytest.approx(model.sampling_schedule.grid(5, t_min=-6.0)[:-1]) and calls[0] == -6.0
    assert torch.equal(sample.ids, model.ema_net.belief_ids(sample.trace.beliefs[-1]))
    assert torch.equal(sample.ids[:1], model.sample([1], 5).ids)  # a text depends on its seed alone


def test_escapes_and_samplers_compose(model: Generator) -> None:
    plain = model.sample([1, 2], 6)
    for sampler in (Ancestral(), Ancestral(0.0), Reinject(1.5, "marginal_preserving"), Heun()):
        other = model.sample([1, 2], 6, sampler=sampler)
        assert bool(other.trace.z.isfinite().all()) and not torch.equal(other.trace.z, plain.trace.z)
    assert torch.allclose(model.sample([1, 2], 6, sampler=Reinject(0.0)).trace.z, plain.trace.z)
    own_form, named = (model.sample([1], 6, sampler=Reinject(1.5, form)) for form in (None, "marginal_preserving"))
    assert torch.equal(own_form.trace.z, named.trace.z)
    with pytest.raises(ValueError, match="VariancePreserving is not straight: Reinject needs form marginal_preserving"):
        model.sample([1], 4, sampler=Reinject(1.5, "code"))
    with pytest.raises(ValueError, match="VariancePreserving is not straight: FlowMapChurn needs LinearPath"):
        model.sample([1], 4, sampler=FlowMapChurn())
    with pytest.raises(
        ValueError, match=r"Uniform draws times in \[0, 1\], but the path VariancePreserving runs from -6"
    ):
        model.sample([1], 4, sampling_schedule=Uniform())
    committed = model.sample([1, 2], 6, sampler=Euler(), escape=Commit()).trace.beliefs
    assert committed[0].committed is None  # pure noise
    codes, rows = model.codec.embeddings, committed[2]
    torch.testing.assert_close(rows.mean, codes[rows.committed])
    model.early_exit = EarlyExit(-1.0, patience=1)
    assert model.sample([1, 2], 6).ids.shape == (2, LENGTH)
    model.early_exit = None


def test_diagnostics_measure_it(model: Generator) -> None:
    batch, noise = texts(), Noise(range(len(texts().ids)))
    inputs = diagnostic_inputs(model, batch)
    assert torch.equal(inputs.decode(inputs.x).argmax(-1), batch.ids)  # clean embeddings are their tokens
    values: dict[str, float] = {}
    stiffness = Stiffness(num_steps=3, num_iterations=1)
    for diagnostic in (DABI(), Tube(), RollIn(), CCI(num_steps=4), Margins(num_steps=4), stiffness):
        values |= diagnostic.measure(model, batch, noise)
    assert values["cci/value"] == 0  # one readout
    assert values["rollin/bayes_error"] > 0.5 > values["rollin/terminal"]  # its first time is nearly noise
    model.escape = Commit("sample")
    assert 0 < CCI(num_steps=4).measure(model, batch, noise)["cci/value"] <= 1
    values |= TextLikelihood(num_draws=8).measure(model, batch, noise)
    parts = sum(values[f"likelihood/{part}"] for part in ("integral", "prior", "reconstruction"))
    assert values["likelihood/nll"] == pytest.approx(parts)
    assert values["likelihood/nll"] < 1.6 * math.log(VOCAB) and all(math.isfinite(v) for v in values.values())


def test_the_likelihood_by_the_flow_is_flow_nll_of_the_averaged_net(model: Generator) -> None:
    batch = texts()
    seeds, shape = range(len(batch.ids)), (batch.ids.shape[1], model.codec.dim)
    with torch.no_grad():  # as in training
        values = TextLikelihood(method="flow", num_steps=3).measure(model, batch, Noise(seeds))
    noise = Noise(seeds)
    eps = noise.normal(*shape)
    expected = flow_nll(scored_text(model, batch), eps, lambda: noise.normal(*shape), 3)
    assert values["flow_likelihood/nll"] == pytest.approx(float(expected.nll.sum() / batch.mask.sum()), rel=1e-6)
    assert all(p.grad is None for p in model.ema_net.parameters())
