"""Engines: two CPU processes train as one does, resume their own and other runs, or stop with a useful error."""

import os
from pathlib import Path

import pytest
import torch

from tests.helpers.bitwise import is_same
from tests.helpers.launcher import (
    ROOT,
    RULES,
    basic_cases,
    case,
    check_equal,
    further_cases,
    max_difference,
    record,
    rows,
    run,
    state,
)  # fmt: skip
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.estimate import Engine

pytestmark = pytest.mark.integration
FAST, SLOW = ["ddp"], ["zero2", "zero1", "zero3", "fsdp"]
ALL = [*FAST, *(pytest.param(engine, marks=pytest.mark.slow) for engine in SLOW)]


@pytest.fixture(scope="module")
def fast(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of one process, and of two with DDP."""
    folder = tmp_path_factory.mktemp("engines")
    write_recipe(folder)
    run(commands, folder, [*(case("one", rule) for rule in RULES), *further_cases("one")], 1)
    controls = [
        case("divides_twice", "sgd", "divides_twice-4", accumulate=4),
        case("ddp", "muon", "ddp-local_tokens", mean="local_tokens"),
    ]
    refused = [
        case("zero2", "torch_muon", "refused-muon"),
        case("zero2", "muon", "refused-bf16", precision="bf16-true"),
        case("ddp", "muon", "refused-batch", start="one-muon", shares=1),
        case("zero3", "muon", "refused-tangent", fault="tangent"),
    ]
    failed = [case("ddp", "adamw", f"failed-{fault}", fault=fault) for fault in ("loss", "weight", "disk")]
    cases = [*basic_cases("ddp"), *further_cases("ddp"), case("ddp", "muon", "ddp-bf16", precision="bf16-mixed")]
    run(commands, folder, [*cases, *controls, *refused, *failed], 2)
    return folder


@pytest.fixture(scope="module")
def slow(commands: Commands, fast: Path) -> Path:
    """Runs with the other engines, and of one process that resumes from each engine."""
    cases = [c for engine in SLOW for c in (*basic_cases(engine), *further_cases(engine))]
    cases += [case(engine, "muon", f"{engine}-bf16", precision="bf16-mixed") for engine in SLOW]
    from_ddp = case("zero2", "muon", "zero2-from-ddp", start="ddp-muon")
    run(commands, fast, [*cases, from_ddp], 2)
    resumed = [case("one", "muon", f"one-from-{engine}", start=f"{engine}-muon") for engine in [*FAST, *SLOW]]
    run(commands, fast, resumed, 1)
    return fast


@pytest.fixture
def runs(engine: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue("slow" if request.node.get_closest_marker("slow") else "fast")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", ALL)
def test_two_processes_train_as_one_does(runs: Path, engine: str, rule: str) -> None:
    ours, theirs = runs / f"{engine}-{rule}", runs / f"one-{rule}"
    before, after = (state(theirs, *step)["state_dict"]["model.net.scores.weight"] for step in ((5,), ()))
    assert float((after - before).abs().max()) > 1e-2
    check_equal(ours, theirs)
    assert rows(ours) == rows(theirs)
    buffers = [record(ours, rank)["buffer"] for rank in (0, 1)]
    assert buffers[0] == buffers[1] and len(set(buffers[0])) == 10

    sizes = record(theirs)["memory"]
    sizes |= {"gradients": sizes["weights"], "activations": 0}
    estimate = Engine(engine, 2, 10**8).memory_per_device(sizes, 0)  # of `textflow check`
    for rank in (0, 1):
        memory = record(ours, rank)["memory"]
        assert memory == pytest.approx({name: estimate[name] for name in memory}, rel=0.05)


@pytest.mark.parametrize(
    ("setting", "reference", "control", "difference"),
    [
        ("clipped", "one-clipped", "one-muon", 1e-3),  # gradients are clipped before they are orthogonalised
        ("tokens", "one-tokens", "ddp-local_tokens", 1e-4),  # the mean is over the tokens of all processes
        ("4", "one-4", "divides_twice-4", 1e-3),  # the loss is divided once
    ],
)
@pytest.mark.parametrize("engine", ALL)
def test_clipping_token_means_and_accumulation_are_those_of_one_process(
    runs: Path, engine: str, setting: str, reference: str, control: str, difference: float
) -> None:
    check_equal(runs / f"{engine}-{setting}", runs / reference)
    assert max_difference(runs / control, runs / reference, "net.") > difference


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", ALL)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(runs: Path, engine: str, rule: str) -> None:
    full, resumed = runs / f"{engine}-{rule}", runs / f"{engine}-{rule}-resumed"
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert is_same(state(full)[part], state(resumed)[part]), part
    for rank in (0, 1):
        assert record(resumed, rank)["random"] == record(full, rank)["random"][5:]
        assert record(resumed, rank)["rows"] == record(full, rank)["rows"][20:]
    assert not set(record(full, 0)["random"]) & set(record(full, 1)["random"])  # one stream per rank


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        *((engine, f"{engine}-from-one") for engine in FAST),
        *((engine, f"{engine}-halved") for engine in ("one", "ddp")),
        pytest.param("zero2", "zero2-from-ddp", marks=pytest.mark.slow),
        *(pytest.param(e, f"{e}-from-one", marks=pytest.mark.slow) for e in SLOW),
        *(pytest.param(e, f"one-from-{e}", marks=pytest.mark.slow) for e in [*FAST, *SLOW]),
        *(pytest.param(e, f"{e}-halved", marks=pytest.mark.slow) for e in SLOW),
    ],
)
def test_a_run_resumes_with_other_processes_engines_and_batch_sizes(runs: Path, engine: str, name: str) -> None:
    check_equal(runs / name, runs / "one-muon")
    assert rows(runs / name) == rows(runs / "one-muon")[40:]


@pytest.mark.parametrize("engine", ALL)
def test_under_bf16_weights_stay_float32_and_engines_agree(runs: Path, engine: str) -> None:
    assert max_difference(runs / "ddp-bf16", runs / "ddp-muon", "net.") > 1e-4
    check_equal(runs / f"{engine}-bf16", runs / "ddp-bf16")
    assert all(t.dtype == torch.float32 for t in state(runs / f"{engine}-bf16")["state_dict"].values())


@pytest.mark.parametrize("engine", ALL)
def test_muon_and_adam_update_their_parameters_and_each_matrix_belongs_to_one_process(runs: Path, engine: str) -> None:
    assert record(runs / "one-muon")["matrices"] == 10 * [2, 2, 1]  # batches of equal shape
    counts = [sum(record(runs / f"{engine}-muon", rank)["matrices"]) for rank in (0, 1)]
    assert sum(counts) == 50 and min(counts) >= 10
    ours, theirs = (state(runs / name)["optimizer_states"][0] for name in (f"{engine}-muon", "one-muon"))
    assert ours["param_groups"] == theirs["param_groups"]
    matrices, rest = ours["param_groups"]
    assert "embedding.weight" in rest["param_names"] and "blocks.0.into.weight" in matrices["param_names"]
    assert all(set(ours["state"][i]) == {"momentum"} for i in matrices["params"])
    torch.testing.assert_close(ours["state"], theirs["state"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("refused-muon", ["Muon under ZeRO-2", "use MuonAdam", "recipes/strategy/ddp.yaml"]),
        ("refused-bf16", ["bf16-true under ZeRO-2", "bf16-mixed"]),
        ("refused-tangent", ["MeanFlow under ZeRO-3", "recipes/strategy/zero2.yaml"]),
        ("refused-batch", ["takes 8 rows per step", "continue with 16", "--data.batch_size"]),
        ("failed-loss", ["the loss of step 3", "Lower the learning rate"]),
        ("failed-weight", ["net.scores.weight is no longer finite at step 5", "nothing was saved"]),
        ("failed-disk", ["cannot save step 5", "No space left", "Free some space"]),
    ],
)
def test_unequal_training_and_the_failure_of_one_process_stop_all_with_advice(
    fast: Path, name: str, parts: list[str]
) -> None:
    for rank in (0, 1):
        error = (fast / f"{name}-{rank}.refused").read_text()
        assert all(part in error for part in parts), error


def test_the_results_page_shows_the_measured_table() -> None:
    table = (ROOT / "eval" / "published" / "engines.md").read_text()
    results = (ROOT / "eval" / "published" / "RESULTS.md").read_text()
    lines = [line.replace("to the bit", "equal bit for bit") for line in table.splitlines()[2:]]
    assert len(lines) == 5 and [line for line in lines if line not in results] == []


@pytest.mark.slow
def test_the_table_of_the_results_page_holds(slow: Path) -> None:
    header = "| engine | MuonAdam | AdamW | average | resumed run | in another number of processes |"
    lines = [header, "|---|---|---|---|---|---|"]
    for engine, title in zip([*FAST, *SLOW], ["DDP", "ZeRO-2", "ZeRO-1", "ZeRO-3", "FSDP2"], strict=True):
        pairs = [(slow / f"{engine}-{rule}", slow / f"one-{rule}") for rule in RULES]
        weights = [max_difference(*pair, "net.") for pair in pairs]
        average = max(max_difference(*pair, "ema_net.") for pair in pairs)
        names = (f"{engine}-from-one", f"one-from-{engine}")
        other = max(max_difference(slow / name, slow / "one-muon", "net.") for name in names)
        cells = [f"{number:.1e}" for number in (*weights, average)]
        equal = all(is_same(state(run), state(slow / f"{run.name}-resumed")) for run, _ in pairs)
        lines.append(f"| {title} | {' | '.join(cells)} | {'to the bit' if equal else 'no'} | {other:.1e} |")
        assert max(*weights, average, other) < 1e-5
    if os.environ.get("TEXTFLOW_WRITE"):
        (ROOT / "eval" / "published" / "engines.md").write_text("\n".join(lines) + "\n")
