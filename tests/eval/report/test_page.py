"""Contents of the page: results of runs, and missing results with their commands."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from tests.helpers.report_page import RECORD, page_data, page_section, table_rows, write_run
from textflow.eval.report.page import render_page

ROOT = Path(__file__).parents[3]
HTML_TEXT = '<script>alert(1)</script><img src=x onerror="alert(2)">'


@pytest.mark.integration
def test_a_page_holds_three_kinds_of_runs_and_loads_no_external_resources(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    kinds = {row[0]: row[2] for row in table_rows(page_section(html, "runs"))}
    assert kinds == {"flow": "continuous", "masked": "masked", "causal": "autoregressive"}
    data = page_data(html)
    assert [(run["name"], len(run["samples"])) for run in data] == [("flow", 2), ("masked", 2), ("causal", 2)]
    methods = data[0]["samples"][0]["methods"]
    assert [method["title"] for method in methods] == ["ODE", "re-injection", "mode commit", "own"]
    for title in ("Loss", "DABI [ours]", "Flips before the text", "CCI [ours]"):
        assert f"<h3>{title}</h3>" in page_section(html, "training")
    assert "default-src 'none'" in unescape(html)
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", html)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert len(html) < 1_000_000, "light enough to mail"


@pytest.mark.integration
def test_models_without_latents_are_lines_on_the_map(page: Path) -> None:
    html = page_section(page.read_text(encoding="utf-8"), "map")
    points = {row[0]: row[2:] for row in table_rows(html)}
    assert points["causal"] == ["1.000", "not defined"] and points["masked"][1] == "not defined"
    assert float(points["flow: ODE"][0]) == 0 and float(points["flow: ODE"][1]) > 0
    assert html.count('class="rule"') == 2


def test_missing_results_are_named_with_their_commands(tmp_path: Path) -> None:
    assert "this is not the folder of a run" in render_page([tmp_path])
    html = render_page([write_run(tmp_path / "bare")])
    for name, command in {
        "trajectories": "textflow fit RECIPE",
        "results": f"textflow eval {tmp_path}/bare",
        "training": "textflow fit RECIPE",
        "flip_curves": f"textflow diagnose {tmp_path}/bare",
        "rounds": f"textflow distill recipes/small/elf_pd.yaml --teacher {tmp_path}/bare",
        "map": f"textflow diagnose {tmp_path}/bare --measures dabi,cci",
    }.items():
        assert f"<code>{command}</code>" in page_section(html, name), name


@pytest.mark.integration
def test_texts_and_names_are_never_markup(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs["masked"], tmp_path / "masked<b>")
    for path in (copy / "trajectories").glob("*.json"):
        record = json.loads(path.read_text())
        texts = dict.fromkeys(record["token_texts"], HTML_TEXT)
        path.write_text(json.dumps(record | {"text": HTML_TEXT, "token_texts": texts}))
    scored = RECORD | {"scorer": HTML_TEXT, "sampler": {"class": HTML_TEXT}, "protocol": "p</script>" + HTML_TEXT}
    (copy / "eval").mkdir()
    (copy / "eval" / "scored.json").write_text(json.dumps(scored))
    html = render_page([copy])
    assert html.count("<script") == html.count("</script>") == 2 and "<img" not in html and "<b>" not in html
    assert "&lt;script&gt;alert(1)" in page_section(html, "results")
    assert page_data(html)[0]["samples"][0]["methods"][0]["text"] == HTML_TEXT


def test_different_protocols_share_no_table(tmp_path: Path) -> None:
    other = RECORD | {"scorer_hash": "def", "perplexity": 70.0}
    html = page_section(render_page([write_run(tmp_path / "run", RECORD, RECORD | {"steps": 8}, other)]), "results")
    tables = [table for table in html.split("<table>")[1:] if "system" not in table]
    assert [len(table_rows(table)) for table in tables] == [2, 1]
    assert "2 protocols were used" in html and html.count("Perplexity against entropy") == 2


def test_real_text_is_listed_once_and_deviations_are_marked(tmp_path: Path) -> None:
    real = RECORD | {"text": "real", "perplexity": 20.0, "sampler": None, "escape": None}
    short = RECORD | {"deviations": ["n 8 for 1000"]}
    runs = [write_run(tmp_path / "a", real, short), write_run(tmp_path / "b", real, RECORD)]
    html = page_section(render_page(runs), "results")
    rows = [row for row in table_rows(html) if len(row) > 5]
    assert [row[:2] for row in rows] == [["", "real text"], ["a", "Euler"], ["b", "Euler"]]
    assert [row[-1] for row in rows] == ["", "†", ""] and "n 8 for 1000" in html


def test_a_sweep_is_one_line_in_order(tmp_path: Path) -> None:
    records = [RECORD | {"sampler": {"class": "Reinject", "gamma": g}, "perplexity": 40 + g} for g in (0.0, 1.5, 0.5)]
    html = page_section(render_page([write_run(tmp_path / "run", *records)]), "results")
    labels = [label.split(":")[1].split(", ")[-1] for label in re.findall(r"<title>(.*?)</title>", html)]
    assert labels == ["4 steps gamma 0", "4 steps gamma 0.5", "4 steps gamma 1.5"]


def test_stories_have_a_line_for_each_sampler_and_curves_of_training(tmp_path: Path) -> None:
    assert 'id="stories"' not in render_page([write_run(tmp_path / "other", RECORD)])
    shares = {"stories/valid": 0.5, "stories/bound": 0.75, "intervals": {"stories/valid": [0.4, 0.6]}}
    records = [RECORD | shares | {"steps": k, "sampler": {"class": s}} for k in (4, 8) for s in ("Euler", "Ancestral")]
    real = RECORD | shares | {"text": "real", "sampler": None, "escape": None, "stories/valid": 1.0}
    metrics = {"metrics.csv": "step,name,value\n1,stories/bound/4,0.25\n"}
    html = render_page([write_run(tmp_path / "run", *records, real, files=metrics)])
    section = page_section(html, "stories")
    titles = re.findall(r"<h3>(.*?)</h3>", section)
    by_steps = ["Valid texts by steps (gpt2)", "Agreements that hold by steps (gpt2)"]
    assert titles == [*by_steps, "Agreements that hold over training"]
    assert "Ancestral, 8 steps: 50.0% [40.0%, 60.0%], n 8" in section and section.count("real text</li>") == 2
    results = page_section(html, "results")
    assert "<h3>Valid against entropy (protocol elf)</h3>" in results and "50.0% [40.0%, 60.0%]" in results


def test_distillation_rounds_have_a_chart_and_all_numbers(tmp_path: Path) -> None:
    row = {"sampler_name": "ODE", "entropy": 3.0, "scorer": "gpt2", "cci": 0.0}
    rows = [row | {"steps": k, "role": r, "perplexity": 100 / k} for k in (2, 4, 8) for r in ("student", "teacher")]
    files = {"rounds.json": '{"teacher": "t", "rounds": []}', "rounds_scored.json": json.dumps(rows)}
    html = page_section(render_page([write_run(tmp_path / "run", files=files)]), "rounds")
    assert len(table_rows(html)) == 6 and "student, ODE" in html and 'class="line dashed"' in html


def test_the_wheel_holds_the_assets_of_the_page() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'^"textflow.eval.report" = \[(.*?)\]', text, re.MULTILINE)[0]
    files = {p.name for p in (ROOT / "eval" / "report").iterdir() if p.suffix not in (".py", "") and p.is_file()}
    assert files == set(re.findall(r'"([^"]+)"', listed))
