"""Engines: two CPU processes end where one does, go on where they or others stopped, or refuse with a way out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import textflow
from tests.helpers.launcher import FIFTH, ROOT, furthest, run, state
from tests.helpers.tiny_recipe import write_recipe
from tests.training.test_resume import same
from textflow.cli.estimate import Engine
from textflow.training import Trainer
from textflow.training.engines.distributed_muon import all_to_all, assign_owners
from textflow.training.weights import read_weights

FAST, SLOW = ["ddp", "zero2"], ["zero1", "zero3", "fsdp"]
RULES = ["muon", "adamw"]
EVERY = [*FAST, *(pytest.param(engine, marks=pytest.mark.slow) for engine in SLOW)]
MOST = ["zero2", *(pytest.param(engine, marks=pytest.mark.slow) for engine in ["ddp", *SLOW])]


def case(engine: str, rule: str, name: str = "", **more: Any) -> dict[str, Any]:
    """A case of tests/helpers/engine_runs.py."""
    return {"run": name or f"{engine}-{rule}", "engine": engine, "optimizer": rule, **more}


def equal(engine: str) -> list[dict[str, Any]]:
    """Ten steps by each rule; the last five again; from one process on."""
    again = [case(engine, rule, f"{engine}-{rule}-again", start=f"{engine}-{rule}") for rule in RULES]
    from_one = case(engine, "muon", f"{engine}-from-one", start="one-muon")
    return [*(case(engine, rule) for rule in RULES), *again, from_one]


def more(engine: str) -> list[dict[str, Any]]:
    """With clipping that bites; a mean over tokens; four batches a step; two, from an odd step of one process on."""
    tight = case(engine, "muon", f"{engine}-tight", clip=0.05)
    tokens = case(engine, "muon", f"{engine}-tokens", mean="tokens")
    sums = case(engine, "sgd", f"{engine}-4", accumulate=4)
    return [tight, tokens, sums, case(engine, "muon", f"{engine}-by-halves", start="one-muon", accumulate=2)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    folder = tmp_path_factory.mktemp("engines")
    write_recipe(folder)
    tight, tokens = case("one", "muon", "one-tight", clip=0.05), case("one", "muon", "one-tokens", mean="tokens")
    by_halves = case("one", "muon", "one-by-halves", start="one-muon", accumulate=2)
    run(folder, [*(case("one", rule) for rule in [*RULES, "sgd"]), tight, tokens, by_halves], 1)
    return folder


@pytest.fixture(scope="module")
def fast(one: Path) -> Path:
    """What two make of it, DDP and ZeRO-2."""
    wrong = [case("zero2", "torch_muon", "refused-muon"), case("zero2", "muon", "refused-half", precision="bf16-true")]
    wrong += [case("ddp", "muon", "refused-batch", start="one-muon", shares=1)]
    wrong += [case("zero3", "muon", "refused-tangent", fault="tangent")]
    controls = [case("twice", "sgd", "twice-4", accumulate=4), case("ddp", "muon", "ddp-untold", mean="untold")]
    wrong += [case("ddp", "adamw", f"failed-{fault}", fault=fault) for fault in ("loss", "weight", "disk")]
    between = case("zero2", "muon", "zero2-from-ddp", start="ddp-muon")
    halves = [case(engine, "muon", f"{engine}-half", precision="bf16-mixed") for engine in FAST]
    cases = [*equal("ddp"), *equal("zero2"), *more("zero2"), *halves, *controls, between, *wrong]
    run(one, cases, 2)
    return one


@pytest.fixture(scope="module")
def slow(fast: Path) -> Path:
    """The other engines, and one process that goes on where each of them stopped."""
    halves = [case(engine, "muon", f"{engine}-half", precision="bf16-mixed") for engine in SLOW]
    run(fast, [*more("ddp"), *(c for engine in SLOW for c in [*equal(engine), *more(engine)]), *halves], 2)
    run(fast, [case("one", "muon", f"one-from-{engine}", start=f"{engine}-muon") for engine in [*FAST, *SLOW]], 1)
    return fast


@pytest.fixture
def runs(engine: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("slow" if request.node.get_closest_marker("slow") else "fast")


def said(run: Path, rank: int) -> dict[str, Any]:
    return json.loads((run / f"rank-{rank}.json").read_text())


@pytest.mark.integration
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", EVERY)
def test_two_processes_end_where_one_does(runs: Path, engine: str, rule: str) -> None:
    ours, theirs = runs / f"{engine}-{rule}", runs / f"one-{rule}"
    moved = state(theirs)["state_dict"]["net.scores.weight"] - state(theirs, FIFTH)["state_dict"]["net.scores.weight"]
    assert float(moved.abs().max()) > 1e-2  # so there is something to differ in
    assert furthest(ours, theirs, "net.") < 1e-5
    assert furthest(ours, theirs, "ema_net.") < 1e-5


@pytest.mark.integration
@pytest.mark.parametrize("engine", MOST)
def test_gradients_are_clipped_before_they_are_orthogonalised(runs: Path, engine: str) -> None:
    assert furthest(runs / "one-tight", runs / "one-muon", "net.") > 1e-3
    assert furthest(runs / f"{engine}-tight", runs / "one-tight", "net.") < 1e-5


@pytest.mark.integration
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", EVERY)
def test_a_run_goes_on_to_the_bit_with_average_optimizer_and_streams(runs: Path, engine: str, rule: str) -> None:
    whole, again = runs / f"{engine}-{rule}", runs / f"{engine}-{rule}-again"
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(state(whole)[part], state(again)[part]), part
    for rank in (0, 1):
        assert said(again, rank)["drawn"] == said(whole, rank)["drawn"][5:]
        assert said(again, rank)["seen"] == said(whole, rank)["seen"][20:]
    assert not set(said(whole, 0)["drawn"]) & set(said(whole, 1)["drawn"])  # each its own stream


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_two_processes_go_on_where_one_stopped(runs: Path, engine: str) -> None:
    assert furthest(runs / f"{engine}-from-one", runs / "one-muon", "net.") < 1e-5
    assert furthest(runs / f"{engine}-from-one", runs / "one-muon", "ema_net.") < 1e-5
    assert rows(runs / f"{engine}-from-one") == said(runs / "one-muon", 0)["seen"][40:]


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("engine", [*FAST, *SLOW])
def test_one_process_goes_on_where_two_stopped(slow: Path, engine: str) -> None:
    assert furthest(slow / f"one-from-{engine}", slow / "one-muon", "net.") < 1e-5
    assert furthest(slow / f"one-from-{engine}", slow / "one-muon", "ema_net.") < 1e-5
    assert said(slow / f"one-from-{engine}", 0)["seen"] == said(slow / "one-muon", 0)["seen"][40:]


def rows(run: Path) -> list[list[int]]:
    """Of both ranks, in the order of the text's rows."""
    pairs = zip(said(run, 0)["seen"], said(run, 1)["seen"], strict=True)
    return [row for pair in pairs for row in pair]


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_each_row_goes_to_one_process_in_the_order_of_one(runs: Path, engine: str) -> None:
    assert rows(runs / f"{engine}-muon") == said(runs / "one-muon", 0)["seen"]


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_buffers_are_those_of_the_first_process(runs: Path, engine: str) -> None:
    heard = [said(runs / f"{engine}-muon", rank)["heard"] for rank in (0, 1)]
    assert heard[0] == heard[1] and len(set(heard[0])) == 10


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_in_bfloat16_weights_and_average_stay_float32_and_engines_agree(runs: Path, engine: str) -> None:
    assert furthest(runs / "ddp-half", runs / "ddp-muon", "net.") > 1e-4
    assert furthest(runs / f"{engine}-half", runs / "ddp-half", "net.") < 1e-5
    assert all(t.dtype == torch.float32 for t in state(runs / f"{engine}-half")["state_dict"].values())


@pytest.mark.integration
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", EVERY)
def test_a_process_holds_what_textflow_check_says(runs: Path, engine: str, rule: str) -> None:
    alone = said(runs / f"one-{rule}", 0)["held"]
    told = Engine(engine, 2, 10**8).memory_per_device({**alone, "gradients": alone["weights"], "activations": 0}, 0)
    for rank in (0, 1):
        found = said(runs / f"{engine}-{rule}", rank)["held"]
        assert found == pytest.approx({name: told[name] for name in found}, rel=0.05)


@pytest.mark.integration
def test_one_engine_goes_on_where_another_stopped(fast: Path) -> None:
    assert furthest(fast / "zero2-from-ddp", fast / "one-muon", "net.") < 1e-5


@pytest.mark.integration
@pytest.mark.parametrize("engine", MOST)
def test_the_loss_is_divided_once_under_accumulation(runs: Path, engine: str) -> None:
    assert furthest(runs / f"{engine}-4", runs / "one-sgd", "net.") < 1e-5
    assert furthest(runs / "twice-4", runs / "one-sgd", "net.") > 1e-3  # as Lightning has it


@pytest.mark.integration
@pytest.mark.parametrize("engine", MOST)
def test_a_mean_over_tokens_is_one_over_those_of_all_processes(runs: Path, engine: str) -> None:
    assert furthest(runs / f"{engine}-tokens", runs / "one-tokens", "net.") < 1e-5
    assert furthest(runs / "ddp-untold", runs / "one-tokens", "net.") > 1e-4


@pytest.mark.integration
@pytest.mark.parametrize("engine", ["one", *MOST])
def test_a_run_goes_on_in_smaller_batches_from_an_odd_step(runs: Path, engine: str) -> None:
    made = runs / f"{engine}-by-halves"
    assert furthest(made, runs / "one-muon", "net.") < 1e-5
    assert furthest(made, runs / "one-muon", "ema_net.") < 1e-5
    seen = rows(made) if engine != "one" else said(made, 0)["seen"]
    assert seen == said(runs / "one-muon", 0)["seen"][40:]


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_each_matrix_is_orthogonalised_by_one_process_and_all_of_a_shape_together(runs: Path, engine: str) -> None:
    assert said(runs / "one-muon", 0)["worked"] == 10 * [2, 2, 1]
    work = [sum(said(runs / f"{engine}-muon", rank)["worked"]) for rank in (0, 1)]
    assert sum(work) == 50 and min(work) >= 10


@pytest.mark.integration
@pytest.mark.parametrize("engine", EVERY)
def test_muon_and_adam_keep_the_parameters_that_they_were_given_by_name(runs: Path, engine: str) -> None:
    ours, theirs = (state(runs / name)["optimizer_states"][0] for name in (f"{engine}-muon", "one-muon"))
    for group, other in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert group == other
    matrices, rest = ours["param_groups"]
    assert "embedding.weight" in rest["param_names"] and "blocks.0.into.weight" in matrices["param_names"]
    assert all(set(ours["state"][i]) == {"momentum"} for i in matrices["params"])
    for i, entry in ours["state"].items():
        for name, value in entry.items():
            torch.testing.assert_close(value, theirs["state"][i][name], atol=1e-5, rtol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("refused-muon", ["Muon under ZeRO-2", "use MuonAdam", "recipes/strategy/ddp.yaml"]),
        ("refused-half", ["bf16-true under ZeRO-2", "bf16-mixed"]),
        ("refused-tangent", ["MeanFlow under ZeRO-3", "recipes/strategy/zero2.yaml"]),
        ("refused-batch", ["takes 8 rows a step", "go on with 16", "--data.batch_size"]),
        ("failed-loss", ["the loss of step 3", "Lower the learning rate"]),
        ("failed-weight", ["net.scores.weight is no longer finite at step 5", "nothing was saved"]),
        ("failed-disk", ["cannot save step 5", "No space left", "Free some space"]),
    ],
)
def test_what_would_not_be_equal_or_fails_on_one_ends_all_with_a_way_out(
    fast: Path, name: str, words: list[str]
) -> None:
    for rank in (0, 1):
        told = (fast / f"{name}-{rank}.refused").read_text()
        assert all(word in told for word in words), told


@pytest.mark.parametrize("word", ["deepspeed", "deepspeed_stage_2", "fsdp"])
def test_strategies_that_ours_mend_are_refused_by_name(word: str) -> None:
    with pytest.raises(ValueError, match=r"use recipes/strategy/(zero1|fsdp)\.yaml"):
        Trainer(max_steps=1, strategy=word, accelerator="cpu", precision="32-true")


def test_matrices_are_shared_out_by_their_work() -> None:
    shapes = [torch.Size(shape) for shape in [(8, 8), (4, 4), (4, 4), (4, 8), (2, 64), (4, 4)]]
    costs = [a * b * min(a, b) for a, b in shapes]
    owner = assign_owners(shapes, 2)
    work = [sum(c for c, o in zip(costs, owner, strict=True) if o == rank) for rank in (0, 1)]
    assert abs(work[0] - work[1]) <= max(costs) and set(owner) == {0, 1}
    assert assign_owners(shapes, 1) == [0] * 6


def test_a_process_without_a_matrix_exchanges_what_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_to_all_single", lambda *tensors: exchanged.extend(tensors[:2]))
    all_to_all([[], []], [0, 3], torch.empty(4, device="meta", dtype=torch.bfloat16))
    assert [(t.device.type, t.dtype, len(t)) for t in exchanged] == [("meta", torch.bfloat16, n) for n in (3, 0)]


def test_the_results_page_shows_the_table_that_was_measured() -> None:
    table = (ROOT / "eval" / "published" / "engines.md").read_text()
    found = (ROOT / "eval" / "published" / "RESULTS.md").read_text()
    rows = [row.replace("to the bit", "equal bit for bit") for row in table.splitlines()[2:]]
    assert len(rows) == 5 and [row for row in rows if row not in found] == []


@pytest.mark.integration
@pytest.mark.slow
def test_the_table_of_the_readme(slow: Path) -> None:
    lines = [
        "| engine | MuonAdam | AdamW | average | goes on | in another number of processes |",
        "|---|---|---|---|---|---|",
    ]
    for engine, title in zip([*FAST, *SLOW], ["DDP", "ZeRO-2", "ZeRO-1", "ZeRO-3", "FSDP2"], strict=True):
        weights = [furthest(slow / f"{engine}-{rule}", slow / f"one-{rule}", "net.") for rule in RULES]
        average = max(furthest(slow / f"{engine}-{rule}", slow / f"one-{rule}", "ema_net.") for rule in RULES)
        other = max(
            furthest(slow / name, slow / "one-muon", "net.") for name in (f"{engine}-from-one", f"one-from-{engine}")
        )
        cells = [f"{number:.1e}" for number in (*weights, average)]
        again = (same(state(slow / f"{engine}-{rule}"), state(slow / f"{engine}-{rule}-again")) for rule in RULES)
        lines.append(f"| {title} | {' | '.join(cells)} | {'to the bit' if all(again) else 'no'} | {other:.1e} |")
        assert max(*weights, average, other) < 1e-5
    if os.environ.get("TEXTFLOW_WRITE"):
        (ROOT / "eval" / "published" / "engines.md").write_text("\n".join(lines) + "\n")


GENERATOR = [
    "--codec",
    "null",
    "--model.codec",
    "EmbeddingTable",
    "--model.codec.dim",
    "8",
    "--model.objective.time_schedule",
    "LogitNormal",
]
GENERATOR += ["--trainer.devices", "2", "--trainer.enable_progress_bar", "false"]


def fit(folder: Path, engine: str, *words: str) -> Path:
    """`textflow fit`, which starts its second process itself."""
    overlay = [str(ROOT / "recipes" / "strategy" / f"{engine}.yaml")] if engine != "one" else []
    command = [sys.executable, "-m", "textflow.cli.app", "fit", "teacher.yaml", *overlay, *GENERATOR]
    command += ["--run.folder", engine, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / engine


@pytest.mark.integration
@pytest.mark.slow
def test_a_generator_is_trained_by_an_overlay(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    made = fit(tmp_path, "zero2", "--trainer.max_steps", "2", "--run.sample_every", "1")
    assert state(made, "state/step-00000002/state.pt")["state_dict"].keys()
    assert len(textflow.load(made).generate(num_samples=2, num_steps=2)) == 2
    assert (made / "samples" / "step-00000001.txt").is_file()


@pytest.mark.integration
@pytest.mark.slow
def test_a_codec_a_teacher_and_students_in_two_processes(tmp_path: Path) -> None:
    overlay, two = str(ROOT / "recipes" / "strategy" / "zero2.yaml"), ["--trainer.devices", "2"]
    clock = ["--model.objective.time_schedule", "LogitNormal"]
    student = "model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}"
    (tmp_path / "students.yaml").write_text(f"rounds: [[4, 2], [2, 2]]\n{student}\nrun: {{wandb: false}}")
    for words in (
        ["fit", str(write_recipe(tmp_path)), overlay, *two, *clock],
        ["distill", "students.yaml", overlay, *two, "--teacher", "run", "--run.folder", "students"],
    ):
        command = [sys.executable, "-m", "textflow.cli.app", *words, "--trainer.max_steps", "4"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and "Errno" not in done.stderr, done.stderr[-3000:]
        assert done.stdout.count("Trained: ") == 2  # the first process alone says it
    rounds = json.loads((tmp_path / "students" / "rounds.json").read_text())["rounds"]
    assert [each["run"] for each in rounds] == ["steps-4", "steps-2"]
    for name in ("run", "students/steps-4", "students/steps-2"):
        assert len(textflow.load(tmp_path / name).generate(num_samples=2, num_steps=2)) == 2
    assert read_weights(tmp_path / "run" / "codec" / "model.safetensors")[1]["step"] == "40"


@pytest.mark.integration
@pytest.mark.slow
def test_a_generator_is_trained_alike_by_every_overlay_and_goes_on_by_another(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    last = "state/step-00000012/state.pt"
    (tmp_path / "look.yaml").write_text(
        "trainer: {callbacks: [{class_path: DABI, init_args: {every_n_steps: 3, num_rows: 4}}]}"
    )
    runs = [fit(tmp_path, engine, "--config", "look.yaml") for engine in ("ddp", "zero1", "zero2", "zero3", "fsdp")]
    for other in runs[1:]:
        assert furthest(other, runs[0], "net.", last) < 1e-5, other
        assert furthest(other, runs[0], "ema_net.", last) < 1e-5, other
    shutil.copytree(runs[0] / "state" / "step-00000008", tmp_path / "one" / "state" / "step-00000008")
    alone = fit(tmp_path, "one", "--trainer.devices", "1", "--data.batch_size", "8")
    assert len(state(alone, last)["state_dict"]) == len(state(runs[0], last)["state_dict"])
