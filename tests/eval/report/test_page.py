"""The page says what runs hold and what they lack, whatever is in their folders."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from textflow.cli.app import main
from textflow.eval.report.axis import Axis
from textflow.eval.report.chart import Series, render_chart
from textflow.eval.report.page import render_page as report
from textflow.eval.report.training import downsample

ROOT = Path(__file__).parents[3]
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'
RECORD: dict[str, Any] = {
    **{"text": "generated", "perplexity": 50.0, "entropy": 3.0, "n": 8, "steps": 4, "seed": 0, "scorer": "judge"},
    **{"scorer_hash": "abc", "scorer_dtype": "float32", "scorer_tokenizer": "T", "scorer_vocab": 9, "truncation": 64},
    **{"token_weighting": "elf", "weights": "elf", "aggregation": "corpus", "entropy_ids": "scorer", "seq_length": 16},
    **{"sampler": {"class": "Euler"}, "escape": {"class": "NoEscape"}, "intervals": {"perplexity": [45.0, 55.0]}},
}
ROUNDS = [
    {
        "steps": k,
        "role": role,
        "sampler_name": "ODE",
        "perplexity": 100.0 / k,
        "entropy": 3.0,
        "scorer": "judge",
        "cci": 0.0,
    }
    for k in (2, 4, 8)
    for role in ("student", "teacher")
]


def run(folder: Path, *records: dict[str, Any], **files: str) -> Path:
    """A run's folder without a model."""
    (folder / "eval").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("model: {class_path: textflow.models.generator.Generator}\n")
    for i, record in enumerate(records):
        (folder / "eval" / f"{i}.json").write_text(json.dumps(record))
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def section(html: str, name: str) -> str:
    """The part of the page under an anchor."""
    return html.split(f'<section id="{name}">')[1].split("</section>")[0]


def rows(html: str) -> list[list[str]]:
    """The cells of all rows."""
    found = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in found]


@pytest.mark.integration
def test_three_runs_stand_on_one_page(page: Path, runs: dict[str, Path]) -> None:
    html = page.read_text()
    kinds = {row[0]: row[2] for row in rows(section(html, "runs")) if row}
    assert kinds == {"flow": "continuous", "masked": "masked", "causal": "autoregressive"}
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert [(each["name"], len(each["samples"])) for each in data] == [("flow", 2), ("masked", 2), ("causal", 2)]
    assert [way["title"] for way in data[0]["samples"][0]["methods"]] == ["ODE", "re-injection", "mode commit", "own"]
    for title in ("Loss", "DABI [ours]", "Flips before the text", "CCI [ours]"):
        assert f"<h3>{title}</h3>" in section(html, "training")


@pytest.mark.integration
def test_the_map_has_a_line_for_models_without_latents(page: Path) -> None:
    html = section(page.read_text(), "map")
    found = {row[0]: row[2:] for row in rows(html) if row}
    assert found["causal"] == ["1.000", "not defined"] and found["masked"][1] == "not defined"
    assert float(found["flow: ODE"][0]) == 0 and float(found["flow: ODE"][1]) > 0
    assert html.count('class="rule"') == 2


@pytest.mark.integration
def test_the_page_needs_nothing_from_anywhere(page: Path) -> None:
    html = page.read_text()
    assert "default-src 'none'" in unescape(html)
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]+)""", html)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert len(html) < 1_000_000, "light enough to mail"


def test_what_is_missing_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    html = report([run(tmp_path / "bare")])
    for name, command in {
        "trajectories": "textflow fit RECIPE",
        "results": f"textflow eval {tmp_path}/bare",
        "training": "textflow fit RECIPE",
        "flip_curves": f"textflow diagnose {tmp_path}/bare",
        "rounds": f"textflow distill recipes/quickstart_pd.yaml --teacher {tmp_path}/bare",
        "map": f"textflow diagnose {tmp_path}/bare --measures dabi,cci",
    }.items():
        assert f"<code>{command}</code>" in section(html, name), name


def test_an_empty_folder_is_no_error(tmp_path: Path) -> None:
    assert "this is not the folder of a run" in report([tmp_path])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics_dot_csv", "step,name,value\n1,train/loss,2.5\n2,train/loss,nan\n3,train/lo", "2 of 4 lines"),
        ("metrics_dot_csv", "\0\0\x01", "1 of 1 lines"),
        ("metrics_dot_csv", f"step,name,value\n1,a,{'9' * 140_000}\n2,a,2.5\n", "1 of 3 lines hold no number"),
        ("diagnostics__diagnose_dot_json", '{"dabi": [{"K": 8', "truncated"),
        ("diagnostics__diagnose_dot_json", "[]", "holds list"),
        ("eval__torn_dot_json", '{"text": "gen', "truncated"),
        ("eval__other_dot_json", '{"text": "generated"}', "perplexity, entropy"),
        ("eval__kind_dot_json", json.dumps(RECORD | {"perplexity": "high"}), "perplexity of another kind"),
        ("eval__part_dot_json", json.dumps(RECORD | {"sampler": "Euler"}), "sampler of another kind"),
        ("rounds_dot_json", "7", "holds int"),
        ("rounds_scored_dot_json", "{", "truncated"),
        ("trajectories__a_dot_json", '{"format": "textflow trajectory 1"}', "is incomplete"),
        ("trajectories__a_dot_json", "", "is not a trajectory record"),
        ("recipe_dot_yaml", "model: [", "is not YAML"),
        ("recipe_dot_yaml", "- 1", "is not a recipe"),
    ],
)
def test_damaged_files_are_named_and_the_rest_is_shown(name: str, text: str, said: str, tmp_path: Path) -> None:
    html = report([run(tmp_path / "run", RECORD, **{name: text})])
    notes = re.findall(r'<p class="note">(.*?)</p>', section(html, "runs"))
    assert any(said in note and str(tmp_path) in note for note in notes), notes
    assert "50.0 [45.0, 55.0]" in section(html, "results")


@pytest.mark.parametrize("value", [None, "x", [], {}, [1, 2], {"K": []}, [{"K": "x", "flips": []}], [[1]], True])
@pytest.mark.parametrize("measure", ["dabi", "tube", "rollin", "cci"])
def test_strange_measures_are_no_error(measure: str, value: Any, tmp_path: Path) -> None:
    text = json.dumps({measure: value, "run": {}})
    assert "</html>" in report([run(tmp_path / "run", **{"diagnostics__diagnose_dot_json": text})])


@pytest.mark.integration
def test_a_record_of_strange_calls_is_named(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs["masked"], tmp_path / "masked")
    path = next((copy / "trajectories").glob("*-0-*.json"))
    whole = json.loads(path.read_text())
    for change in ({"calls": [{}]}, {"calls": 3}, {"ids": None}, {"token_texts": []}, {"sampling": [1]}, {"text": 1}):
        path.write_text(json.dumps(whole | change))
        html = report([copy])
        assert "incomplete calls" in section(html, "runs"), change
        assert html.count("sample 1") >= 1


@pytest.mark.integration
def test_texts_and_names_are_never_markup(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs["masked"], tmp_path / "masked<b>")
    for path in (copy / "trajectories").glob("*.json"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps(said | {"text": EVIL, "token_texts": dict.fromkeys(said["token_texts"], EVIL)}))
    evil = RECORD | {"scorer": EVIL, "sampler": {"class": EVIL}, "protocol": "p</script>" + EVIL}
    (copy / "eval").mkdir()
    (copy / "eval" / "evil.json").write_text(json.dumps(evil))
    html = report([copy])
    assert html.count("<script") == html.count("</script>") == 2 and "<img" not in html and "<b>" not in html
    assert "&lt;script&gt;alert(1)" in section(html, "results")
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data[0]["samples"][0]["methods"][0]["text"] == EVIL


def test_different_protocols_never_share_a_table(tmp_path: Path) -> None:
    other = RECORD | {"scorer_hash": "def", "perplexity": 70.0}
    html = section(report([run(tmp_path / "run", RECORD, RECORD | {"steps": 8}, other)]), "results")
    tables = [table for table in html.split("<table>")[1:] if "system" not in table]
    assert [len(rows(table)) - 1 for table in tables] == [2, 1]
    assert "2 protocols were used" in html and html.count("Perplexity against entropy") == 2


def test_real_text_stands_once_and_deviations_are_marked(tmp_path: Path) -> None:
    real = RECORD | {"text": "real", "perplexity": 20.0, "sampler": None, "escape": None}
    short = RECORD | {"deviations": ["n 8 for 1000"]}
    html = section(report([run(tmp_path / "a", real, short), run(tmp_path / "b", real, RECORD)]), "results")
    found = [row for row in rows(html) if row and len(row) > 5]
    assert [row[:2] for row in found] == [["", "real text"], ["a", "Euler"], ["b", "Euler"]]
    assert [row[-1] for row in found] == ["", "†", ""] and "n 8 for 1000" in html


def test_a_sweep_is_a_line_of_its_own(tmp_path: Path) -> None:
    swept = [RECORD | {"sampler": {"class": "Reinject", "gamma": g}, "perplexity": 40 + g} for g in (0.0, 1.5, 0.5)]
    html = section(report([run(tmp_path / "run", *swept)]), "results")
    labels = re.findall(r"<title>(.*?)</title>", html)
    assert [label.split(":")[1].split(", ")[-1] for label in labels] == [
        "4 steps gamma 0",
        "4 steps gamma 0.5",
        "4 steps gamma 1.5",
    ]


def test_rounds_have_a_picture_and_all_numbers(tmp_path: Path) -> None:
    files = {"rounds_dot_json": '{"teacher": "t", "rounds": []}', "rounds_scored_dot_json": json.dumps(ROUNDS)}
    html = section(report([run(tmp_path / "run", **files)]), "rounds")
    assert len([row for row in rows(html) if row]) == 6 and "student, ODE" in html and 'class="line dashed"' in html


def test_runs_of_one_name_keep_apart(tmp_path: Path) -> None:
    html = section(report([run(tmp_path / "a" / "run"), run(tmp_path / "b" / "run")]), "runs")
    assert [row[0] for row in rows(html) if row] == ["a/run", "b/run"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "gone"), "--out", str(tmp_path / "r.html")]) == 2
    said = capsys.readouterr().err
    assert "no folder" in said and said.count("\n") == 1 and not (tmp_path / "r.html").exists()


def test_folders_of_which_none_is_a_run_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "r.html"
    assert main(["report", str(tmp_path / "empty"), str(tmp_path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "found no recipe.yaml" in said and said.count("\n") == 1 and not out.exists()
    assert main(["report", str(tmp_path / "empty"), str(run(tmp_path / "run")), "--out", str(out)]) == 0


@pytest.mark.parametrize("held", [b"weights", b"<", b"<!doctype html>\n<p>a page of mine", b"\xff\0"])
def test_a_file_that_is_no_page_is_not_written_over(held: bytes, tmp_path: Path, capsys: Any) -> None:
    out = run(tmp_path / "run") / "model.safetensors"
    out.write_bytes(held)
    assert main(["report", str(tmp_path / "run"), "--samples", "0", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "not a page of textflow report" in said and "--out" in said and out.read_bytes() == held


def test_a_page_is_written_anew_whole(tmp_path: Path) -> None:
    out, link = tmp_path / "r.html", tmp_path / "link.html"
    link.symlink_to(out)
    words = ["report", str(run(tmp_path / "run")), "--out"]
    out.touch()
    assert main([*words, str(out)]) == 0
    first = out.read_bytes()
    out.write_bytes(first[:-100])
    assert main([*words, str(link)]) == 0
    assert out.read_bytes() == first and link.is_symlink() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.integration
def test_a_run_that_cannot_sample_says_why_and_the_others_stand(runs: Any, tmp_path: Path, capsys: Any) -> None:
    broken = shutil.copytree(runs["masked"], tmp_path / "broken", ignore=shutil.ignore_patterns("trajectories"))
    (broken / "model.safetensors").write_bytes(b"no weights")
    out = tmp_path / "deep" / "r.html"
    assert main(["report", str(broken), str(runs["causal"]), "--out", str(out), "--steps", "4", "--samples", "1"]) == 0
    assert "is damaged" in section(out.read_text(), "trajectories") and '"name": "causal"' in out.read_text()


@pytest.mark.integration
def test_a_logarithmic_axis_leaves_out_what_has_no_place() -> None:
    svg = render_chart(
        "t", Axis("x", "log"), Axis("y", "log"), [Series("a", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (10.0, 100.0)])]
    )
    assert svg.count('class="dot"') == 2
    ruler = Axis("y", "log").fit([1.0, 100.0], 0.0, 1.0)
    assert ruler.position(0.0) is None and ruler.position(10.0) == pytest.approx(0.5)
    assert all(0 <= (ruler.position(tick) or 0) <= 1 for tick in ruler.ticks) and len(ruler.ticks) >= 3


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)], [(1e-9, 1e9), (1.0, -5.0)]])
def test_any_points_make_a_chart(points: list[tuple[float, float]]) -> None:
    for scale in ("linear", "log"):
        svg = render_chart("t", Axis("x", scale), Axis("y", scale), [Series("a", points)])
        assert "nan" not in svg and "inf" not in svg and svg.endswith("</ul>")


def test_long_curves_are_thinned_to_means() -> None:
    points = [(float(i), float(i % 2)) for i in range(3000)]
    found = downsample(points)
    assert len(found) == 300 and all(y == 0.5 for _, y in found) and found[0][0] == 4.5
    assert downsample(points[:10]) == points[:10]


def test_a_wheel_holds_what_the_page_is_made_of() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'^"textflow.eval.report" = \[(.*?)\]', text, re.MULTILINE)[0]
    others = {
        path.name for path in (ROOT / "eval" / "report").iterdir() if path.suffix not in (".py", "") and path.is_file()
    }
    assert others == set(re.findall(r'"([^"]+)"', named))
