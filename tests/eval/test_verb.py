"""The command line of textflow eval."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.cli.eval import parse_steps


def printed(capsys: pytest.CaptureFixture[str], text: Path, *options: str) -> str:
    """Standard output of the command."""
    assert main(argv(text, *options)) == 0
    return capsys.readouterr().out


def argv(text: Path, *options: str) -> list[str]:
    return ["eval", str(text), *options, "--scorer", str(text.parent / "tiny_scorer"), "--device", "cpu"]


@pytest.mark.integration
def test_the_printed_table_has_marks_and_agrees_with_the_records(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = printed(capsys, run, "--protocol", "elf", "--steps", "2,3", "-n", "5", "--seed", "3")
    records = [json.loads(path.read_text()) for path in (run / "eval").glob("*.json")]
    records = [record for record in records if record["seed"] == 3]
    texts = sorted((r["text"], r.get("steps", 0)) for r in records)
    assert texts == [("generated", 2), ("generated", 3), ("real", 0), ("shuffled", 0)]
    for record in records:
        assert record["n"] == 5 and f"{record['perplexity']:.1f}" in out and record["scorer_hash"] in out
    notes = ("real (†)", "seq-rep-4", "† all rows: n 5 for 1000", "† all rows: truncation 8 for 1024", "seed 3")
    assert [note for note in notes if note not in out] == []


@pytest.mark.integration
def test_an_overlay_and_a_sampler_name_set_the_sampling(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    out = printed(capsys, run, str(root / "recipes" / "escape" / "commit.yaml"), "--steps", "2", "-n", "3")
    assert "generated Commit Ancestral 2" in out
    assert "generated Heun 2" in printed(capsys, run, "--sampler", "heun", "--steps", "2", "-n", "3")


@pytest.mark.integration
def test_only_the_export_is_on_stdout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, run, "--steps", "1", "-n", "3", "--format", "csv"))))
    assert [row["text"] for row in rows] == ["real", "shuffled", "generated"] and float(rows[2]["perplexity"]) > 1
    assert printed(capsys, run, "--steps", "1", "-n", "3", "--format", "latex").startswith(r"\begin{tabular}")


@pytest.mark.integration
def test_a_run_whose_text_was_moved_is_scored_with_data_files(
    run: Path, tmp_path: Path, fails: Fails, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("eval")))
    shutil.copytree(run.parent / "tiny_scorer", tmp_path / "tiny_scorer")
    text, recipe = str(run.parent / "text.txt"), moved / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(text, "gone.txt"))
    options = ["--steps", "1", "-n", "3", "--seed", "5"]
    fails(argv(moved, *options), "no file gone.txt")
    texts = [printed(capsys, run, *options, "--format", "csv")]
    texts.append(printed(capsys, moved, *options, "--format", "csv", "--data.files", text))
    columns = ("text", "perplexity", "perplexity_low", "perplexity_high")
    own, found = ([[row[name] for name in columns] for row in csv.DictReader(io.StringIO(text))] for text in texts)
    assert own == found and len(own) == 3


@pytest.mark.integration
def test_a_sweep_writes_a_figure_and_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, run, "--steps", "2", "-n", "3", "--sampler", "reinject", "--sweep", "gamma=0:1:.5")
    assert "gamma=0.5" in out and len(list((run / "eval").glob("frontier-gamma-*.svg"))) == 1
    assert "w=2" in printed(capsys, run, "--steps", "2", "-n", "3", "--sweep", "w=1,2")


@pytest.mark.integration
def test_a_file_of_texts_is_scored_and_its_lost_lines_are_listed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "texts.txt"
    file.write_bytes(b"in the beginning God\n\nthe\n\xff\n")
    out = printed(capsys, file, "-n", "3")
    assert "file (†)" in out and "1 of 3 empty" in out and "texts.txt:4: not UTF-8" in out and "nan" not in out


@pytest.mark.integration
def test_a_mistake_is_refused_in_one_line(run: Path, fails: Fails) -> None:
    for options, message in (
        (["--protocol", "gpt"], "no protocol 'gpt'; known are elf"),
        (["--steps", "0"], "whole numbers above 0"),
        (["-n", "0"], "at least 1"),
        (["--sweep", "gamma"], "first:last:step"),
        (["--sweep", "colour=1,2", "-n", "2"], "have no such setting"),
        (["--devices", "0"], "--devices is 0; needs 1 to"),
        (["--dtype", "int4", "-n", "2"], "known are float32"),
        (["--mauve", "-n", "2"], "needs 5000 samples"),
    ):
        fails(argv(run, *options), message)
    fails(argv(run / "codec"), "an Autoencoder, which writes no texts; name a Generator")
    for subject, option in (([str(run)], "-n"), (["--oracle", "chain"], "--batch-size")):
        fails(["diagnose", *subject, option, "0"], "at least 1 is needed")


def test_a_damaged_recipe_is_refused_in_one_line(tmp_path: Path, fails: Fails) -> None:
    for verb, text, reason in (("eval", "", "damaged"), ("eval", "a: b: c", "not YAML"), ("diagnose", "[]", "damaged")):
        (tmp_path / "recipe.yaml").write_text(text)
        fails([verb, str(tmp_path), "--device", "cpu"], f"{tmp_path}/recipe.yaml is {reason}")


def test_steps_are_whole_numbers_above_zero() -> None:
    assert parse_steps("1, 2,32") == [1, 2, 32]
    for wrong in ("", "1,,2", "0", "1.5", "a"):
        with pytest.raises(ValueError, match="above 0"):
            parse_steps(wrong)
