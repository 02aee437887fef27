"""The command line of textflow eval."""

import csv
import io
import json
from pathlib import Path

import pytest

from textflow.cli.app import main
from textflow.cli.eval import parse_steps


def said(capsys: pytest.CaptureFixture[str], run: Path, *words: str) -> str:
    """What the verb prints on stdout."""
    assert main(["eval", str(run), *words, "--scorer", str(run.parent / "judge"), "--device", "cpu"]) == 0
    return capsys.readouterr().out


@pytest.mark.integration
def test_it_prints_the_table_with_marks_and_the_records_say_the_same(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = said(capsys, run, "--protocol", "elf", "--steps", "2,3", "-n", "5", "--seed", "3")
    found = [json.loads(path.read_text()) for path in (run / "eval").glob("*.json")]
    mine = [record for record in found if record["seed"] == 3]
    assert sorted((r["text"], r.get("steps", 0)) for r in mine) == [
        *(("generated", 2), ("generated", 3), ("real", 0), ("shuffled", 0)),
    ]
    for record in mine:
        assert record["n"] == 5 and f"{record['perplexity']:.1f}" in out and record["scorer_hash"] in out
    for word in ("real (†)", "seq-rep-4", "† all rows: n 5 for 1000", "† all rows: truncation 8 for 1024", "seed 3"):
        assert word in out


@pytest.mark.integration
def test_an_overlay_and_a_sampler_by_name_change_how_it_samples(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    out = said(capsys, run, str(root / "recipes" / "escape" / "commit.yaml"), "--steps", "2", "-n", "3")
    assert "generated Commit Ancestral 2" in out
    assert "generated Heun 2" in said(capsys, run, "--sampler", "heun", "--steps", "2", "-n", "3")


@pytest.mark.integration
def test_exports_are_alone_on_stdout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(said(capsys, run, "--steps", "1", "-n", "3", "--format", "csv"))))
    assert [row["text"] for row in rows] == ["real", "shuffled", "generated"] and float(rows[2]["perplexity"]) > 1
    assert said(capsys, run, "--steps", "1", "-n", "3", "--format", "latex").startswith(r"\begin{tabular}")


@pytest.mark.integration
def test_a_sweep_leaves_a_figure_and_its_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, run, "--steps", "2", "-n", "3", "--sampler", "reinject", "--sweep", "gamma=0:1:.5")
    assert "gamma=0.5" in out and len(list((run / "eval").glob("frontier-gamma-*.svg"))) == 1
    assert "w=2" in said(capsys, run, "--steps", "2", "-n", "3", "--sweep", "w=1,2")


@pytest.mark.integration
def test_a_file_of_texts_is_scored_with_what_was_lost_of_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = run.parent / "texts.txt"
    file.write_bytes(b"in the beginning God\n\nthe\n\xff\n")
    assert main(["eval", str(file), "--scorer", str(run.parent / "judge"), "-n", "3", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "file (†)" in out and "1 of 3 empty" in out and "texts.txt:4 is not UTF-8" in out and "nan" not in out


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--protocol", "gpt"], "no protocol 'gpt'; known are elf"),
        (["--steps", "0"], "whole numbers above 0"),
        (["-n", "0"], "at least 1"),
        (["--sweep", "gamma"], "first:last:step"),
        (["--sweep", "colour=1,2", "-n", "2"], "have no such setting"),
        (["--devices", "0"], "--devices is 0; needs 1 to"),
        (["--dtype", "int4", "-n", "2"], "known are float32"),
        (["--mauve", "-n", "2"], "needs 5000 samples"),
    ],
)
def test_a_mistake_is_one_line(run: Path, words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--scorer", str(run.parent / "judge"), "--device", "cpu", *words]) == 2
    assert why in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("verb", "text", "why"),
    [
        *((verb, text, "recipe.yaml is damaged") for verb in ("eval", "diagnose") for text in ("", "[]", "null")),
        *((verb, "a: b: c", "recipe.yaml is not YAML") for verb in ("eval", "diagnose")),
    ],
)
def test_a_run_whose_recipe_is_damaged_is_one_line(
    verb: str, text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert main([verb, str(tmp_path), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{tmp_path}/{why}" in error


@pytest.mark.integration
def test_a_codec_writes_no_texts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run / "codec"), "--scorer", str(run.parent / "judge"), "--device", "cpu"]) == 2
    assert (
        "an Autoencoder, which writes no texts; name a Generator, DiscreteDiffusion or CausalLM"
        in capsys.readouterr().err
    )


@pytest.mark.integration
@pytest.mark.parametrize("words", [["-n", "0"], ["--batch-size", "0"]])
@pytest.mark.parametrize("of", [["RUN"], ["--oracle", "chain"]])
def test_diagnose_needs_a_row(run: Path, words: list[str], of: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *(str(run) if word == "RUN" else word for word in of), *words]) == 2
    assert "at least 1 is needed" in capsys.readouterr().err


def test_steps_are_whole_numbers_above_zero() -> None:
    assert parse_steps("1, 2,32") == [1, 2, 32]
    for wrong in ("", "1,,2", "0", "1.5", "a"):
        with pytest.raises(ValueError, match="above 0"):
            parse_steps(wrong)
