"""The page in a real browser: no complaint, keys that work, a dark page for who wants one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.browser import PROGRAM, Browser
from textflow.eval.report.page import render_page as report

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt install chromium"),
    pytest.mark.integration,
]


@pytest.fixture
def open_page(page: Path) -> Iterator[Browser]:
    with Browser() as browser:
        browser.open(page)
        yield browser
        assert browser.errors == []


def said(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def call(browser: Browser) -> str:
    return said(browser, "#where")


def colour(browser: Browser, name: str, selector: str = "body") -> list[int]:
    found = browser.run(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{name}")
    return [int(float(part)) for part in found[found.index("(") + 1 : -1].split(",")[:3]]


def luminance(rgb: list[int]) -> float:
    """Of WCAG 2, from 0 (black) to 1 (white)."""
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: list[int], other: list[int]) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_it_opens_from_disk_without_a_complaint_and_asks_for_nothing(open_page: Browser, page: Path) -> None:
    assert open_page.run("document.readyState") == "complete"
    assert [url for url in open_page.asked if not url.startswith("data:")] == [page.absolute().as_uri()]
    assert open_page.run("document.querySelectorAll('.panel').length") == 4


def test_arrows_move_through_the_calls(open_page: Browser) -> None:
    assert call(open_page) == "call 2 of 4"
    before = said(open_page, ".panel .toks")
    open_page.press("ArrowRight")
    assert call(open_page) == "call 3 of 4" and said(open_page, ".panel .toks") != before
    for _ in range(5):
        open_page.press("ArrowRight")
    assert call(open_page) == "call 4 of 4"
    for _ in range(5):
        open_page.press("ArrowLeft")
    assert call(open_page) == "call 1 of 4" and said(open_page, ".counts").startswith("t = 0.000 · 0 flipped")


def test_with_the_focus_more_keys_work_and_a_position_is_followed(open_page: Browser) -> None:
    open_page.press("End")
    assert call(open_page) == "call 2 of 4", "without the focus End scrolls the page"
    open_page.click(".panel [data-i='3']")
    assert said(open_page, "#told").startswith("Position 4. ODE: “")
    assert open_page.run("document.querySelectorAll('.same').length") == 4
    open_page.press("End")
    assert call(open_page) == "call 4 of 4"
    open_page.press("Home")
    assert call(open_page) == "call 1 of 4"
    open_page.press("Escape")
    assert open_page.run("document.querySelectorAll('.same').length") == 0
    open_page.press("ArrowDown")
    assert open_page.run("document.getElementById('sample').value") == "1"


def test_it_shows_what_the_record_says(open_page: Browser, runs: dict[str, Path]) -> None:
    path = next((runs["flow"] / "trajectories").glob("mode-commit-4-seed0-0-*.json"))
    record = json.loads(path.read_text())
    at = "[...document.querySelectorAll('.panel')].find(p => p.querySelector('h3').textContent == 'mode commit')"
    for k in (1, 2, 3):
        now, before = record["calls"][k], record["calls"][k - 1]
        kinds = open_page.run(f"[...{at}.querySelectorAll('.tok')].map(e => e.className)")
        flips = [a != b for a, b in zip(now["ids"], before["ids"], strict=True)]
        assert [" flip" in kind for kind in kinds] == flips
        assert [" committed" in kind for kind in kinds] == [token >= 0 for token in now["committed"]]
        bins = [sum(margin >= edge for edge in (0.5, 1, 2, 4)) for margin in now["margin"]]
        assert [int(kind.split()[1][1:]) for kind in kinds] == bins
        open_page.press("ArrowRight")


def test_other_runs_and_samples_can_be_chosen(open_page: Browser) -> None:
    choose = "(e => { e.value = '2'; e.dispatchEvent(new Event('change')) })(document.getElementById('run'))"
    open_page.run(choose)
    assert call(open_page) == "call 2 of 16" and said(open_page, ".panel h3") == "autoregressive"
    assert open_page.run("document.querySelectorAll('.tok.none[data-i]').length") == 14


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_in_light_and_in_dark(dark: bool, page: Path) -> None:
    with Browser(dark=dark) as browser:
        browser.open(page)
        paper = colour(browser, "backgroundColor")
        assert (luminance(paper) < 0.1) == dark
        for selector in ("p", ".description", "figcaption", "a", "th", ".missing"):
            assert contrast(colour(browser, "color", selector), paper) >= 4.5, selector
        assert contrast(colour(browser, "fill", "svg text"), paper) >= 4.5
        ink = colour(browser, "color", ".scale .tok")
        for kind in range(5):
            assert contrast(ink, colour(browser, "backgroundColor", f".scale .b{kind}")) >= 4.5, kind
        for kind in range(4):
            assert contrast(colour(browser, "fill", f".key.c{kind} circle, .key.c{kind} polygon"), paper) >= 3, kind
        assert browser.errors == []


def test_a_narrow_page_does_not_scroll_sideways(page: Path) -> None:
    with Browser(width=380, height=700) as browser:
        browser.open(page)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.errors == []


def test_a_text_that_is_a_script_does_not_run(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs["flow"], tmp_path / "flow")
    evil = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    for path in (copy / "trajectories").glob("*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"text": evil, "token_texts": dict.fromkeys(record["token_texts"], evil)}))
    out = tmp_path / "evil.html"
    out.write_text(report([copy]))
    with Browser() as browser:
        browser.open(out)
        browser.click(".panel [data-i='3']")
        browser.press("ArrowRight")
        assert browser.run("window.ran") is None and browser.run("document.images.length") == 0
        assert evil in said(browser, "#told") and evil in said(browser, ".panel details")
        assert browser.errors == []


def test_the_test_would_hear_a_complaint(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "bad.html"
    out.write_text(page.read_text().replace("</body>", "<img src='https://example.org/x.png'></body>"))
    with Browser() as browser:
        browser.open(out)
        assert any("example.org" in error for error in browser.errors)
