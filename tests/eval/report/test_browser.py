"""The page in a browser: no errors, working keys, and a readable light and dark page."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.browser import PROGRAM, Browser
from textflow.eval.report.page import render_page

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt install chromium"),
    pytest.mark.integration,
]


@pytest.fixture
def browser(page: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    with Browser(**getattr(request, "param", {})) as browser:
        browser.open(page)
        yield browser
        assert browser.errors == []


def text(browser: Browser, selector: str) -> str:
    return str(browser.run(f"document.querySelector({json.dumps(selector)}).textContent"))


def luminance(browser: Browser, name: str, selector: str = "body") -> float:
    """Luminance of a colour property by WCAG 2, from 0 (black) to 1 (white)."""
    value = browser.run(f"getComputedStyle(document.querySelector({json.dumps(selector)})).{name}")
    rgb = [int(float(part)) / 255 for part in value[value.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 10 / 255 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_it_opens_from_disk_and_loads_nothing(browser: Browser, page: Path) -> None:
    assert browser.run("document.readyState") == "complete"
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.absolute().as_uri()]
    assert browser.run("document.querySelectorAll('.panel').length") == 4


def test_arrows_move_through_the_calls(browser: Browser) -> None:
    assert text(browser, "#where") == "call 2 of 4"
    before = text(browser, ".panel .toks")
    browser.press("ArrowRight")
    assert text(browser, "#where") == "call 3 of 4" and text(browser, ".panel .toks") != before
    for key, end in (("ArrowRight", "call 4 of 4"), ("ArrowLeft", "call 1 of 4")):
        for _ in range(5):
            browser.press(key)
        assert text(browser, "#where") == end
    assert text(browser, ".counts").startswith("t = 0.000 · 0 flipped")


def test_more_keys_work_with_the_focus_and_a_position_is_followed(browser: Browser) -> None:
    browser.press("End")
    assert text(browser, "#where") == "call 2 of 4", "without the focus End scrolls the page"
    browser.click(".panel [data-i='3']")
    assert text(browser, "#detail").startswith("Position 4. ODE: “")
    assert browser.run("document.querySelectorAll('.same').length") == 4
    for key, end in (("End", "call 4 of 4"), ("Home", "call 1 of 4")):
        browser.press(key)
        assert text(browser, "#where") == end
    browser.press("Escape")
    assert browser.run("document.querySelectorAll('.same').length") == 0
    browser.press("ArrowDown")
    assert browser.run("document.getElementById('sample').value") == "1"


def test_it_shows_the_tokens_of_the_record(browser: Browser, runs: dict[str, Path]) -> None:
    path = next((runs["flow"] / "trajectories").glob("mode-commit-4-seed0-0-*.json"))
    calls = json.loads(path.read_text())["calls"]
    panel = "[...document.querySelectorAll('.panel')].find(p => p.querySelector('h3').textContent == 'mode commit')"
    for before, call in zip(calls, calls[1:], strict=False):
        classes = browser.run(f"[...{panel}.querySelectorAll('.tok')].map(e => e.className)")
        flips = [a != b for a, b in zip(call["ids"], before["ids"], strict=True)]
        assert [" flip" in each for each in classes] == flips
        assert [" committed" in each for each in classes] == [token >= 0 for token in call["committed"]]
        bins = [sum(margin >= edge for edge in (0.5, 1, 2, 4)) for margin in call["margin"]]
        assert [int(each.split()[1][1:]) for each in classes] == bins
        browser.press("ArrowRight")


def test_other_runs_can_be_selected(browser: Browser) -> None:
    browser.run("(e => { e.value = '2'; e.dispatchEvent(new Event('change')) })(document.getElementById('run'))")
    assert text(browser, "#where") == "call 2 of 16" and text(browser, ".panel h3") == "autoregressive"
    assert browser.run("document.querySelectorAll('.tok.none[data-i]').length") == 14


@pytest.mark.parametrize(("browser", "dark"), [({}, False), ({"dark": True}, True)], indirect=["browser"])
def test_text_is_readable_in_light_and_dark(browser: Browser, dark: bool) -> None:
    paper, ink = luminance(browser, "backgroundColor"), luminance(browser, "color", ".scale .tok")
    assert (paper < 0.1) == dark
    for selector in ("p", ".description", "figcaption", "a", "th", ".missing"):
        assert contrast(luminance(browser, "color", selector), paper) >= 4.5, selector
    assert contrast(luminance(browser, "fill", "svg text"), paper) >= 4.5
    for i in range(5):
        assert contrast(ink, luminance(browser, "backgroundColor", f".scale .b{i}")) >= 4.5, i
    for i in range(4):
        assert contrast(luminance(browser, "fill", f".key.c{i} circle, .key.c{i} polygon"), paper) >= 3, i


@pytest.mark.parametrize("browser", [{"width": 380, "height": 700}], indirect=True)
def test_a_narrow_page_does_not_scroll_sideways(browser: Browser) -> None:
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_a_text_with_a_script_does_not_run(runs: dict[str, Path], page: Path, tmp_path: Path) -> None:
    copy, out = shutil.copytree(runs["flow"], tmp_path / "flow"), tmp_path / "script.html"
    script = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>"
    for path in (copy / "trajectories").glob("*.json"):
        record = json.loads(path.read_text())
        texts = dict.fromkeys(record["token_texts"], script)
        path.write_text(json.dumps(record | {"text": script, "token_texts": texts}))
    out.write_text(render_page([copy]))
    with Browser() as browser:
        browser.open(out)
        browser.click(".panel [data-i='3']")
        browser.press("ArrowRight")
        assert browser.run("window.ran") is None and browser.run("document.images.length") == 0
        assert script in text(browser, "#detail") and script in text(browser, ".panel details")
        assert browser.errors == []


def test_a_blocked_resource_is_reported_as_an_error(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "bad.html"
    out.write_text(page.read_text(encoding="utf-8").replace("</body>", "<img src='https://example.org/x.png'></body>"))
    with Browser() as browser:
        browser.open(out)
        assert any("example.org" in error for error in browser.errors)
