"""A student of one pass, or two: choices that are functions of the noise, with the law of the teacher's."""

from typing import Any

import pytest
import torch

from tests.helpers.systems import make
from tests.helpers.trained_codecs import LENGTH, texts
from textflow.distill import StepDistillation, TokenDistillation
from textflow.distill.targets import Progressive
from textflow.noise import LatentNoise
from textflow.samplers import Grouped, Order

HALVES = Grouped([i % 2 for i in range(LENGTH)])


@pytest.mark.parametrize("entries", [3, 4, 11])
def test_choices_are_functions_of_the_latents_and_follow_the_softmax(entries: int) -> None:
    """Also of more entries than coordinates, of which several share one."""
    rows, dim = 20_000, 4
    z = torch.randn(rows, 2, dim, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(2, entries, generator=torch.Generator().manual_seed(1)).expand(rows, 2, entries)
    for temperature in (1.0, 0.5):
        p = (logits[0].double() / temperature).softmax(-1)
        ids = LatentNoise(z).choose(logits, temperature)
        assert torch.equal(ids, LatentNoise(z).choose(logits, temperature))
        counts = torch.stack([ids[:, i].bincount(minlength=entries) for i in range(2)])
        assert bool(((counts - rows * p).abs() < 4.5 * (rows * p * (1 - p)).sqrt()).all())
        joint = (ids[:, 0] * entries + ids[:, 1]).bincount(minlength=entries**2).view(entries, entries)
        product = rows * p[0][:, None] * p[1]
        assert bool(((joint - product).abs() < 5 * product.sqrt() + 1).all()), "positions are independent"


def test_an_impossible_entry_is_never_chosen() -> None:
    z = torch.randn(5000, 1, 2, generator=torch.Generator().manual_seed(0))
    logits = torch.tensor([0.0, -torch.inf, 1.0, -torch.inf, -torch.inf, 0.5]).expand(5000, 1, 6)
    assert set(LatentNoise(z).choose(logits).flatten().tolist()) == {0, 2, 5}


def test_other_noise_and_choices_without_latents_are_refused() -> None:
    noise = LatentNoise(torch.zeros(2, 3, 4))
    for draw in (noise.normal, noise.uniform):
        with pytest.raises(ValueError, match="one step per group by the ODE"):
            draw(3)
    with pytest.raises(ValueError, match="use a codec with a latent per token"):
        noise.choose(torch.zeros(2, 5, 7))


def student(order: Order | None = None, **options: Any) -> tuple[Any, Any]:
    """An untrained LangFlow and its student, which samples in an order."""
    torch.manual_seed(0)
    teacher: Any = make("LangFlow")
    with torch.no_grad():  # an untrained net is zero at its end
        for net in (teacher.net, teacher.ema_net):
            net.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    objective = TokenDistillation(HALVES, teacher_objective=teacher.objective, **options)
    own: Any = make("LangFlow", objective=objective, **({} if order is None else {"order": order}))
    own.learn_from(teacher, teacher)
    return teacher, own


def test_the_teachers_text_is_a_function_of_the_noise() -> None:
    teacher, own = student()
    eps = torch.randn(64, LENGTH, own.codec.dim, generator=torch.Generator().manual_seed(3))
    z = own.path.mix(torch.zeros_like(eps), eps, own.path.t_min)
    ids = own.objective.teacher_ids(own.codec, own.path, z, eps)
    assert ids.shape == (64, LENGTH) and len({*map(tuple, ids.tolist())}) > 32
    part = own.objective.teacher_ids(own.codec, own.path, z[10:20], eps[10:20])
    assert torch.equal(part, ids[10:20]), "a row's text does not depend on its batch"
    first = torch.tensor([i % 2 == 0 for i in range(LENGTH)])
    writes, context = own.objective.student_pass(own.codec, own.path, z, ids)
    logits = own.objective.student_logits(teacher.ema_net, own.codec, own.path, z, context)
    assert bool(writes.all()), "one pass writes all"
    assert torch.equal(LatentNoise(eps).choose(logits)[:, first], ids[:, first]), "the first group sees noise alone"


def test_training_lowers_the_loss_and_sampling_asks_for_the_learned_step() -> None:
    _, own = student()
    own.net.requires_grad_(True)
    optimizer = torch.optim.Adam(own.net.parameters(), 0.01)
    losses = []
    for _ in range(30):
        loss = own.train().losses(own.net, texts())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    own.ema_net.load_state_dict(own.net.state_dict())
    z, _ = own.initial_noise([1, 2])
    _, context = own.objective.student_pass(own.codec, own.path, z, torch.zeros(2, LENGTH, dtype=torch.long))
    expected = own.objective.student_logits(own.ema_net.eval(), own.codec, own.path, z, context).argmax(-1)
    assert torch.equal(own.sample_ids([1, 2], own.default_steps), expected)


def test_a_student_is_sampled_in_the_steps_that_it_is_trained_for() -> None:
    teacher, own = student()
    four: Any = make("ELF", objective=StepDistillation(Progressive(), 4))
    assert [model.default_steps for model in (teacher, own, four)] == [32, 1, 4]


def test_a_student_of_two_passes_is_given_the_tokens_of_the_first() -> None:
    """With the teacher's own groups the student's logits are those by which the teacher has chosen; training lowers the
    loss of both passes, and sampling takes one step of each."""
    teacher, own = student(HALVES, student_groups=HALVES.groups)
    eps = torch.randn(8, LENGTH, own.codec.dim, generator=torch.Generator().manual_seed(3))
    z = own.path.mix(torch.zeros_like(eps), eps, own.path.t_min)
    ids = own.objective.teacher_ids(own.codec, own.path, z, eps)
    writes, context = own.objective.student_pass(own.codec, own.path, z, ids)
    assert torch.equal(writes, torch.arange(LENGTH) % 2 == torch.arange(8)[:, None] % 2)
    logits = own.objective.student_logits(teacher.ema_net, own.codec, own.path, z, context)
    assert torch.equal(LatentNoise(eps).choose(logits)[writes], ids[writes])
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none").view_as(ids)
    loss = own.objective.loss(own.net, own.codec, own.path, eps)["loss"]
    torch.testing.assert_close(loss, nll[writes].sum() / writes.sum())
    sample = own.sample([1, 2], own.default_steps)
    assert len(sample.trace.times) == 2 and own.objective.passes == 2


@pytest.mark.parametrize(
    "groups", [[0] * (LENGTH - 1), [i // 2 % 2 for i in range(LENGTH)], [1 - i % 2 for i in range(LENGTH)]]
)
def test_passes_that_are_not_unions_of_the_teachers_groups_are_refused(groups: list[int]) -> None:
    with pytest.raises(ValueError, match="not unions of the teacher's groups"):
        TokenDistillation(HALVES, groups)


def test_prompts_and_a_temperature_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="one above 0"):
        TokenDistillation(temperature=0.0)
    _, own = student()
    batch = texts()
    with pytest.raises(ValueError, match="pairs with a prompt"):
        own.losses(own.net, batch._replace(prompt_mask=torch.ones_like(batch.mask)))
