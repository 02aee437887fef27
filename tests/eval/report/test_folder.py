"""Damaged, strange and missing files of run folders, and the command line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.report_page import RECORD, page_section, table_rows, write_run
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.eval.report.page import render_page


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("metrics.csv", "step,name,value\n1,train/loss,2.5\n2,train/loss,nan\n3,train/lo", "2 of 4 lines"),
        ("metrics.csv", "\0\0\x01", "1 of 1 lines"),
        ("metrics.csv", f"step,name,value\n1,a,{'9' * 140_000}\n2,a,2.5\n", "1 of 3 lines hold no number"),
        ("diagnostics/diagnose.json", '{"dabi": [{"K": 8', "truncated"),
        ("diagnostics/diagnose.json", "[]", "holds list"),
        ("eval/torn.json", '{"text": "gen', "truncated"),
        ("eval/other.json", '{"text": "generated"}', "perplexity, entropy"),
        ("eval/kind.json", json.dumps(RECORD | {"perplexity": "high"}), "perplexity of another kind"),
        ("eval/part.json", json.dumps(RECORD | {"sampler": "Euler", "escape": 5}), "sampler, escape of another kind"),
        ("rounds.json", "7", "holds int"),
        ("rounds_scored.json", "{", "truncated"),
        ("trajectories/a.json", '{"format": "textflow trajectory 1"}', "is incomplete"),
        ("trajectories/a.json", "", "is not a trajectory record"),
        ("recipe.yaml", "model: [", "is not YAML"),
        ("recipe.yaml", "- 1", "is not a recipe"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(name: str, text: str, problem: str, tmp_path: Path) -> None:
    html = render_page([write_run(tmp_path / "run", RECORD, files={name: text})])
    notes = re.findall(r'<p class="note">(.*?)</p>', page_section(html, "runs"))
    assert any(problem in note and str(tmp_path) in note for note in notes), notes
    assert "50.0 [45.0, 55.0]" in page_section(html, "results")


@pytest.mark.integration
@pytest.mark.parametrize("measure", ["dabi", "tube", "rollin", "cci"])
def test_strange_measures_are_not_an_error(measure: str, tmp_path: Path) -> None:
    for value in (None, "x", [], {}, [1, 2], {"K": []}, [{"K": "x", "flips": []}], [[1]], True, [{"K": 10**400}]):
        files = {"diagnostics/diagnose.json": json.dumps({measure: value, "run": {}})}
        assert "</html>" in render_page([write_run(tmp_path / "run", files=files)]), value


@pytest.mark.integration
def test_a_record_with_strange_calls_is_named(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs["masked"], tmp_path / "masked")
    path = next((copy / "trajectories").glob("*-0-*.json"))
    record = json.loads(path.read_text())
    for change in ({"calls": [{}]}, {"calls": 3}, {"ids": None}, {"token_texts": []}, {"sampling": [1]}, {"text": 1}):
        path.write_text(json.dumps(record | change))
        html = render_page([copy])
        assert "incomplete calls" in page_section(html, "runs"), change
        assert html.count("sample 1") >= 1


def test_an_invalid_record_is_refused_in_one_line(tmp_path: Path, fails: Fails) -> None:
    path = tmp_path / "bad.json"
    for text in ("", "{", "[]", '{"format": "other"}', '{"format": "textflow trajectory 1"}'):
        path.write_text(text)
        fails(["sample", "--replay", str(path)], str(path))


def test_folders_of_one_name_get_longer_names(tmp_path: Path) -> None:
    html = render_page([write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")])
    assert [row[0] for row in table_rows(page_section(html, "runs"))] == ["a/run", "b/run"]


def test_folders_without_a_run_are_refused_in_one_line(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "r.html")]
    for folders, problem in ((["gone"], "no folder"), (["empty", "."], "found no recipe.yaml")):
        fails(["report", *(str(tmp_path / folder) for folder in folders), *out], problem)
        assert not (tmp_path / "r.html").exists()
    assert main(["report", str(tmp_path / "empty"), str(write_run(tmp_path / "run")), *out]) == 0


@pytest.mark.parametrize("content", [b"weights", b"<", b"<!doctype html>\n<p>a page of mine", b"\xff\0"])
def test_a_file_that_is_not_a_report_is_not_overwritten(content: bytes, tmp_path: Path, fails: Fails) -> None:
    out = write_run(tmp_path / "run") / "model.safetensors"
    out.write_bytes(content)
    argv = ["report", str(tmp_path / "run"), "--samples", "0", "--out", str(out)]
    fails(argv, "not a page of textflow report", "--out")
    assert out.read_bytes() == content


def test_a_truncated_report_is_replaced_through_a_link(tmp_path: Path) -> None:
    out, link = tmp_path / "r.html", tmp_path / "link.html"
    link.symlink_to(out)
    command = ["report", str(write_run(tmp_path / "run")), "--out"]
    out.touch()
    assert main([*command, str(out)]) == 0
    content = out.read_bytes()
    out.write_bytes(content[:-100])
    assert main([*command, str(link)]) == 0
    assert out.read_bytes() == content and link.is_symlink() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.integration
def test_a_run_that_cannot_sample_is_explained_beside_the_others(runs: Any, tmp_path: Path) -> None:
    broken = shutil.copytree(runs["masked"], tmp_path / "broken", ignore=shutil.ignore_patterns("trajectories"))
    (broken / "model.safetensors").write_bytes(b"no weights")
    out = tmp_path / "deep" / "r.html"
    assert main(["report", str(broken), str(runs["causal"]), "--out", str(out), "--steps", "4", "--samples", "1"]) == 0
    html = out.read_text()
    assert "is damaged" in page_section(html, "trajectories") and '"name": "causal"' in html
