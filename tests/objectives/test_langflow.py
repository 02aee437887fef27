"""LangFlow's objective: equal to the plain form with less memory, and the routes of its gradients."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.helpers.langflow_nets import tiny_langflow
from tests.helpers.peak_memory import PeakMemory
from textflow.codecs import EmbeddingTable
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.nets import DiT, LangFlow
from textflow.objectives import Draws, LangFlowObjective
from textflow.paths import VariancePreserving
from textflow.readouts import FromPosterior
from textflow.reference.langflow import reference_langflow_loss
from textflow.schedules import Gumbel
from textflow.training import TrainingModule
from textflow.types import Batch

PATH, VOCAB, LENGTH, ROWS = VariancePreserving(), 11, 6, 4
SCHEDULE = ("loc", "scale", "entropy")


def texts(vocab: int = VOCAB, length: int = LENGTH) -> Batch:
    ids = torch.randint(vocab, (ROWS, length), generator=torch.Generator().manual_seed(0))
    return Batch(ids, torch.arange(length) < torch.tensor([length, length, length - 1, 2])[:, None])


def draws_of(x: Tensor, law: Gumbel) -> Draws:
    return Draws(law.sample(len(x)), torch.randn_like(x), self_cond=torch.tensor([True, False, True, False]))


def gradients(loss: Any, net: LangFlow, objective: LangFlowObjective, batch: Batch) -> dict[str, Tensor]:
    """Values and gradients of one step with the same draws."""
    for part in (net, objective):
        part.zero_grad()
    torch.manual_seed(1)
    x = net.token_codec.encode(batch.ids)
    values = loss(net, PATH, x, batch, draws_of(x, objective.time_schedule))
    values["loss"].backward()
    named = [*net.named_parameters(), *objective.named_parameters()]
    return values | {f"grad.{name}": p.grad.clone() for name, p in named if p.grad is not None}


def test_chunks_and_chosen_rows_are_the_plain_form() -> None:
    net = tiny_langflow()
    objective = LangFlowObjective(Gumbel(1.0, 0.8, 2.0, trainable=True), schedule_loss_weight=1.0)
    lean = gradients(objective.loss, net, objective, texts())
    plain = gradients(lambda *args: reference_langflow_loss(objective, *args), net, objective, texts())
    assert lean.keys() == plain.keys() and {"grad.codec.table", "grad.time_schedule.loc"} < set(lean)
    for name in lean:
        torch.testing.assert_close(lean[name], plain[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_step_needs_at_most_half_of_the_plain_forms_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    net, batch = tiny_langflow(2000), texts(2000, 40)
    objective = LangFlowObjective(Gumbel(1.0, 0.8, 2.0))
    monkeypatch.setattr("textflow.nets.langflow.BUDGET", 8000)
    peaks = {}
    for form in (objective.loss, lambda *args: reference_langflow_loss(objective, *args)):
        with PeakMemory() as memory:
            gradients(form, net, objective, batch)
        peaks[form] = memory.peak
    lean, plain = peaks.values()
    assert plain > 4 * 2000 * ROWS * 40 and lean < 0.5 * plain


def test_the_schedule_and_the_net_do_not_see_each_others_gradient() -> None:
    net = tiny_langflow()
    fixed, learned = (
        LangFlowObjective(Gumbel(1.0, 0.8, 2.0, trainable=trainable), schedule_loss_weight=1.0)
        for trainable in (False, True)
    )
    one, both = (gradients(objective.loss, net, objective, texts()) for objective in (fixed, learned))
    schedule = {name for name in both if "time_schedule" in name}
    assert schedule == {f"grad.time_schedule.{name}" for name in SCHEDULE}
    for name in one.keys() - {"loss"}:
        assert torch.equal(one[name], both[name]), name
    assert both["ce"] == one["loss"] and both["loss"] == both["ce"] + both["schedule_mse"]
    objective = LangFlowObjective(Gumbel(1.0, 0.8, 2.0, trainable=True))  # its expected cross-entropy is H
    row_ce = objective.time_schedule.expected_nll(t := objective.time_schedule.sample(3)).detach()
    row_ce[1] = torch.nan  # a row without a token
    valid = torch.ones(3, 5, dtype=torch.bool)
    assert float(objective.schedule_losses(torch.zeros(()), row_ce, t, valid)["schedule_mse"]) == 0
    each = objective.time_schedule.sample(3, 5)  # a time for each position: the row's mean is expected
    row_ce = objective.time_schedule.expected_nll(each).mean(1).detach()
    assert float(objective.schedule_losses(torch.zeros(()), row_ce, each, valid)["schedule_mse"]) == pytest.approx(0)


def test_the_likelihood_is_raised_from_nothing_in_training_alone() -> None:
    net, objective = tiny_langflow(), LangFlowObjective(Gumbel(), ramp_steps=4)
    for step, ramp in ((0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)):
        objective(net, net.token_codec, PATH, texts(), step)
        assert float(net.ramp) == ramp
    objective.eval()
    objective(net, net.token_codec, PATH, texts(), 0)
    assert float(net.ramp) == 1.0
    LangFlowObjective(Gumbel(), ramp_steps=0)(net, net.token_codec, PATH, texts(), 0)
    assert float(net.ramp) == 1.0
    codec = EmbeddingTable(VOCAB, 8)
    with pytest.raises(ValueError, match="LangFlowObjective trains the net LangFlow, not DiT"):
        objective(DiT(codec, 8, 1, 2, 4), codec, PATH, texts(), 0)


def make_generator() -> Generator:
    torch.manual_seed(0)
    return Generator(
        VOCAB,
        codec=lambda vocab: EmbeddingTable(vocab, 8, trainable=True, init="uniform"),
        net=lambda codec: LangFlow(codec, depth=1, heads=2, cond_width=4),
        objective=LangFlowObjective(Gumbel(1.0, 1.0, 2.0, trainable=True), ramp_steps=3),
        path=PATH,
        readout=FromPosterior(),
        token_readout=FromPosterior(),
        ema_decay=0.5,
    )


@pytest.mark.integration
def test_the_optimizer_trains_net_embeddings_and_schedule(tmp_path: Path) -> None:
    model, off = make_generator(), dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    model.text_format, model.data_batch = TextFormat(seq_length=LENGTH), lambda rows, held_out=False: texts()
    before = model.weights()
    trainer = L.Trainer(max_steps=2, accelerator="cpu", enable_checkpointing=False, **off)
    trainer.fit(TrainingModule(model), DataLoader([texts()] * 8, batch_size=None))
    after = model.weights()
    for name in ("net.codec.table", "net.out.weight", *(f"objective.time_schedule.{p}" for p in SCHEDULE)):
        assert not torch.equal(before[name], after[name]), name
    assert float(after["net.ramp"]) == pytest.approx(2 / 3)
    loaded = make_generator()
    loaded.load_weights(after)
    loaded.text_format = model.text_format
    assert torch.equal(loaded.sampling_schedule.loc, model.objective.time_schedule.loc)
    assert torch.equal(loaded.sample([1, 2], 3).ids, model.sample([1, 2], 3).ids)


@pytest.mark.integration
def test_a_students_schedule_is_its_teachers() -> None:
    teacher, student = make_generator(), make_generator()
    student.objective = LangFlowObjective(Gumbel(trainable=True))
    student.objective.set_teacher = lambda objective, net: None
    student.learn_from(teacher, teacher)
    assert not any(name.startswith("objective.") for name, _ in student.trained_parameters())
    assert any(name.startswith("objective.") for name, _ in teacher.trained_parameters())
