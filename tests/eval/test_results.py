"""The results page agrees with the records."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from textflow.cli.app import main
from textflow.cli.results import difference
from textflow.eval import results
from textflow.eval.results import PUBLISHED, pages, render

ROOT = Path(__file__).parents[2]
RECORDS = sorted(path.stem for path in (PUBLISHED / "results").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published records."""
    return Path(shutil.copytree(PUBLISHED, tmp_path / "published", ignore=shutil.ignore_patterns("*.svg")))


def cells(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Mapping and key of each cell and each single number of a record."""
    for table in record.get("tables", {}).values():
        for row in table["rows"].values():
            yield from ((row, key) for key in row)
    yield from ((record["numbers"], key) for key in record.get("numbers", {}))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_page_on_disk_agrees_with_the_records() -> None:
    for path, text in pages().items():
        assert difference(path, text) == "", "run: textflow reproduce results"


def test_each_cell_and_number_of_each_record_is_printed(folder: Path) -> None:
    marks: list[str] = []

    def mark(_: Any = None) -> str:
        marks.append(f"<{len(marks)}>")
        return marks[-1]

    for name in RECORDS:
        path = folder / "results" / f"{name}.yaml"
        record = yaml.load(path.read_text(), yaml.BaseLoader)
        for mapping, key in list(cells(record)):
            mapping[key] = [mark() for _ in mapping[key]] if isinstance(mapping[key], list) else mark()
        path.write_text(yaml.safe_dump(record, sort_keys=False))
    text = render("RESULTS.template.md", folder)
    assert len(marks) > 500 and [number for number in marks if number not in text] == []


CHANGES = [  # file, old text, new text, text of the page
    ("results/elf.yaml", "perplexity: 75.7", "perplexity: 12.30", "| 15 | 12.30 | 3.03 |"),
    ("results/elf.yaml", "seq_rep_4: 43.8", "seq_rep_4: 40", "| 40% |"),
    ("results/elf.yaml", "n: 256", "n: 17", "; n: 17; "),
    ("results/students.yaml", "[56.6, 2.81]", "[1.5, 2.81]", "| 1.5 / 2.81 |"),
    ("results/escape_students.yaml", "[1530, 1.90, 3]", "[1, 2, 3]", "| 1 / 2 (3) |"),
    ("results/oracle.yaml", "[+0.007, 0.014]", "[-1, 2]", "| -1 ± 2 |"),
    ("engines.md", "| FSDP2 | 2.4e-07 |", "| FSDP2 | 1 |", "| FSDP2 | 1 |"),
    ("few_step.yaml", "[5743, 6.02]", "[1, 2]", "| Duo+DCD | 1 / 2 |"),
]


def test_a_changed_record_changes_the_page(folder: Path) -> None:
    for file, old, new, _ in CHANGES:
        replace_in(folder / file, old, new)
    before, after = (PUBLISHED / "RESULTS.md").read_text(), render("RESULTS.template.md", folder)
    assert [printed for *_, printed in CHANGES if printed not in after or printed in before] == []


def test_the_speed_table_shows_the_benchmark_records(folder: Path) -> None:
    names = ["step_P", "step_R", "step_B", "step_B_bf16", "distill_P", "distill_R", "optimizer_P", "optimizer_R"]
    for repeats, name in enumerate(names, 70):
        path = folder / f"bench_{name}.json"
        record = json.loads(path.read_text())
        speedup = {key: 98.76 for key in record["speedup"]}
        path.write_text(json.dumps(record | {"speedup": speedup, "difference": 1.3e-3, "repeats": repeats}))
    text = render("RESULTS.template.md", folder)
    assert [n for n, _ in enumerate(names, 70) if not re.search(rf"\| 98\.76 \[.*\| 1\.3e-03 \| {n} \|", text)] == []


def test_each_benchmark_record_is_printed_and_the_package_ships_all_records() -> None:
    template = (PUBLISHED / "results" / "RESULTS.template.md").read_text()
    names = [path.stem.removeprefix("bench_") for path in PUBLISHED.glob("bench_*.json")]
    assert [name for name in names if f'"{name}"' not in template and f"bench.{name}" not in template] == []
    shipped = re.search(r'^"textflow\.eval" = \[(.*)\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert shipped
    files = {path for pattern in re.findall(r'"([^"]+)"', shipped[1]) for path in PUBLISHED.parent.glob(pattern)}
    needed = [*PUBLISHED.glob("results/*"), *PUBLISHED.glob("*.json"), PUBLISHED / "engines.md"]
    assert [path.name for path in needed if path not in files] == []


@pytest.mark.integration
def test_a_mistake_in_a_record_is_refused_with_its_key(folder: Path) -> None:
    path = folder / "results" / "elf.yaml"
    original = path.read_text()
    for old, new, where in (
        ("\nnumbers:", "\nnumber:", "elf.yaml: unknown key 'number'"),
        ("  dtype: float32", "  type: float32", "elf.yaml: protocol: unknown key 'type'"),
        ("perplexity: 75.7", "perplexty: 75.7", "elf.yaml: results: row commit_8: unknown key 'perplexty'"),
        ("{heading: seq-rep-4,", "{head: seq-rep-4,", "results: column seq_rep_4: unknown key 'head'"),
        ("  minutes: 20", "  hours: 20", "has no attribute 'minutes'"),
        ("perplexity: 75.7", "perplexity: [75.7, 3]", "row 'commit_8', column 'perplexity': 2 values"),
        ("title: ", "# ", "elf.yaml: missing title"),
    ):
        path.write_text(original)
        replace_in(path, old, new)
        with pytest.raises(ValueError, match=re.escape(where)):
            render("RESULTS.template.md", folder)
            render("README.template.md", folder)
    path.write_text(original)
    replace_in(folder / "results" / "README.template.md", '["ode", ', '["odd", ')
    with pytest.raises(ValueError, match="unknown row 'odd'"):
        render("README.template.md", folder)


def test_the_readme_gets_a_row_a_sampler_between_its_markers(folder: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\nstale\n<!-- /results -->\nafter\n")
    text = pages(folder, readme)[readme]
    assert text.startswith("before\n<!-- results -->\n|") and text.endswith("\n<!-- /results -->\nafter\n")
    assert "stale" not in text and len([line for line in text.splitlines() if line.startswith("| ")]) == 2 + 5
    readme.write_text(text)
    assert pages(folder, readme)[readme] == text
    readme.write_text("<!-- results -->\n")
    assert list(pages(folder, readme)) == [folder / "RESULTS.md"], "a README without both markers is unchanged"


def test_the_command_checks_and_writes_results_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / "RESULTS.md"
    monkeypatch.setattr(results, "pages", lambda: pages(folder, tmp_path / "README.md"))
    monkeypatch.setattr(results, "README", tmp_path / "README.md")
    replace_in(folder / "results" / "elf.yaml", "perplexity: 75.7", "perplexity: 12.3")
    before = page.read_text()
    assert main(["reproduce", "results", "--check"]) == 1 and page.read_text() == before
    output = capsys.readouterr().out
    assert re.search(r"^-.* 75\.7 ", output, re.MULTILINE) and re.search(r"^\+.* 12\.3 ", output, re.MULTILINE)
    assert main(["reproduce", "results"]) == 0 and " 12.3 " in page.read_text()
    assert main(["reproduce", "results", "--check"]) == 0
    assert main(["reproduce", "fig5", "--check"]) == 2 and "--check" in capsys.readouterr().err
