"""`textflow reproduce systems`: runs in one table."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.systems import make
from tests.helpers.tiny_scorer import save_scorer
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.cli.reproduce import reproduce
from textflow.eval.results import load_record
from textflow.eval.systems import System, check_runs, system_cci
from textflow.eval.systems_table import make_record, write_record
from textflow.eval.trajectory.trace import trace_sample
from textflow.models.causal_lm import CausalLM

ROOT = Path(__file__).parents[2]
PARTS = {"recipe": "", "parameters": "1", "steps": "2", "sampler": ""}
SCORED = {"n": 4, "protocol": "local", "deviations": ["n 4 for 256"], "scorer_hash": "ab", "scorer_dtype": "float32"}


def record(perplexity: float | None, **facts: Any) -> dict[str, Any]:
    return SCORED | {"text": "generated", "perplexity": perplexity, "entropy": 3.8, "seq_rep_4": 0.0125} | facts


def test_cci_of_a_masked_model_is_the_mean_over_its_trajectories_and_of_the_others_as_defined() -> None:
    masked, seeds = make("MDLM"), [3, 4]
    traced = [trace_sample(masked, seed, 8).cci for seed in seeds]
    assert system_cci(masked, seeds) == pytest.approx(sum(traced) / len(traced), abs=1e-12) and traced[0] > 0.1
    assert 0.1 < system_cci(make("Duo"), seeds) < system_cci(masked, seeds)
    assert system_cci(make("ELF"), seeds) == 0, "a smooth map"
    assert system_cci(CausalLM(8, width=4, depth=1, heads=1), seeds) == 1


def test_a_flow_that_reads_its_own_logits_is_traced_from_the_first_call() -> None:
    for system in ("LangFlow", "FLM"):
        model = make(system)
        traced = trace_sample(model, 3, 4)
        assert traced.calls[-1].ids == traced.ids == model.sample([3], 4).ids[0].tolist(), system
        assert len(traced.calls) == 4 and all(min(call.margin) >= 0 for call in traced.calls), system


def test_each_system_is_a_row_and_one_without_steps_has_one_result(tmp_path: Path) -> None:
    real = record(40.0, text="real")
    flow = [record(700.04, steps=2, nfe=3, seconds=1.0), record(None, steps=8, nfe=9, seconds=2.0)]
    language = [record(50.0, steps=64, nfe=64.0, seconds=4.0)]
    measured = [
        System("flow", [real, *flow], PARTS | {"model": "ELF"}, {"dabi": ">= 2.00", "rollin": ["1.0", "2.5"]}, {}),
        System("ar", [real, *language], PARTS | {"model": "CausalLM"}, {"cci": "1.00"}, {}),
    ]
    write_record(make_record(measured, [2, 8], "textflow", 0, "cpu"), tmp_path / "systems.yaml")
    lines = load_record(tmp_path / "systems.yaml").tables["results"].markdown().splitlines()
    assert lines[0].startswith(
        "| system | K = 2 | K = 8 | without K | network evaluations, K = 8 | seconds per text, K = 8"
    )
    assert lines[2:] == [
        "| real text |  |  | 40.0 / 3.80 / 1.2% |  |  |  |  |  |  |",
        "| flow | 700.0 / 3.80 / 1.2% | - / 3.80 / 1.2% |  | 9 | 0.50 | >= 2.00 |  |  | 1.0% / 2.5% |",
        "| ar |  |  | 50.0 / 3.80 / 1.2% | 64 | 1.00 |  | 1.00 |  |  |",
    ]
    assert load_record(tmp_path / "systems.yaml").protocol["protocol"] == "local (n 4 for 256)"


def test_a_run_that_is_missing_or_does_not_compare_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails
) -> None:
    def write(name: str, seq_length: int = 8, model: str = "Generator", **data: Any) -> Path:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").touch()
        recipe = {"model": {"class_path": model}, "data": {"seq_length": seq_length} | data}
        (tmp_path / name / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        return tmp_path / name

    monkeypatch.chdir(ROOT)
    for name, recipe in (("duo", "recipes/small/duo.yaml"), ("elf", "recipes/small/elf.yaml"), ("x", "RECIPE")):
        run = tmp_path / "none" / name
        fails(["reproduce", "systems", str(run)], f"no trained run at {run}: textflow fit {recipe} --run.folder {run}")
    first = write("a")
    refused("a and .*b differ in data.seq_length; one table needs", check_runs, [first, write("b", 16)])
    refused("differ in data.files", check_runs, [first, write("c", files="x")])
    refused("have one name; rename", check_runs, [first, write("d/a")])
    refused("answers sources", check_runs, [write("e", max_source_length=4)])
    refused("an Autoencoder, which writes no texts", check_runs, [write("f", model="Autoencoder")])
    fails(["reproduce", "systems"], "systems needs trained runs: textflow reproduce systems checkpoints/quickstart")
    refused("fig2 takes one run.*fig2 --run a", reproduce, "fig2", runs=[Path("a")])


@pytest.mark.integration
def test_one_command_measures_a_run_and_writes_its_row(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "tiny", ignore=shutil.ignore_patterns("eval")))
    save_scorer(tmp_path / "scorer")
    argv = ["reproduce", "systems", str(folder), "--steps", "1,2", "-n", "4", "--out", str(tmp_path)]
    assert main(argv) == 0
    made = load_record(tmp_path / "systems.yaml")
    row, printed = made.tables["results"].rows["tiny"], capsys.readouterr().out
    assert set(row) == set(made.tables["results"].columns) - {"single"} and made.protocol["n"] == "4"
    assert all(table.markdown() in printed for table in made.tables.values()) and "RESULTS.md" not in printed
    facts = made.tables["runs"].rows["tiny"]
    assert (facts["model"], facts["steps"], facts["sampler"]) == ("ELF", "12", "Euler")
    records = [json.loads(path.read_text()) for path in (folder / "eval").glob("generated*.json")]
    (single,) = [each for each in records if each["steps"] == 1]
    assert row["k1"][:2] == [f"{single['perplexity']:.1f}", f"{single['entropy']:.2f}"]
