"""The page: whole, harmless, and with the figures of the result; looked at in a browser too."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from echoframe.compare.drawings import Drawing, Sheet
from echoframe.compare.figures import Spread, figures
from echoframe.compare.page import _whole_rows, numbers_of, render
from echoframe.compare.result import Result
from echoframe.errors import SettingError

from .browser import CHROMIUM, Browser, chromium
from .results import HOSTILE, made_up

VOID = {"meta", "input", "br", "path", "img", "link"}


class Page(HTMLParser):
    """What stands in a page: its elements, its scripts by id, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "script":
            self.scripts.append((found.get("id"), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            name, before = self.scripts[-1]
            self.scripts[-1] = name, before + data
        elif self._open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """Give the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def data(self, name: str) -> Any:
        """Give what a script of data holds."""
        return json.loads(dict(self.scripts)[name])


@pytest.fixture(scope="module")
def text() -> str:
    pytest.importorskip("plotly", reason="pages need plotly: pip install 'echoframe[report]'")
    return render([made_up()], sentences=[f"loop wins {HOSTILE}", "no difference"])


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def expected(result: Result) -> list[dict[str, Any]]:
    """What a page is to say of each cell, by way of JSON."""
    found = []
    for cell in result.cells:
        own = asdict(figures(cell))
        del own["histogram"]
        own["latency"] = {f"{percent:g}": value for percent, value in own["latency"].items()}
        own |= {name: getattr(cell, name) for name in ("subject", "task", "connections")}
        own |= {"failure": cell.failure, "ready": cell.ready, "stop": cell.stop}
        found.append({**own, "rounds": len(cell.rounds)})
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # a list, as it was


def test_the_figures_of_a_page_are_those_of_the_result(page: Page) -> None:
    (run,) = page.data("figures")["runs"]
    assert run["cells"] == expected(made_up())


def test_the_figures_are_the_same_by_way_of_the_exported_file() -> None:
    read = Result.from_json(made_up().to_json())
    assert numbers_of(Sheet([read])) == numbers_of(Sheet([made_up()]))


def test_the_tables_hold_the_same_figures(text: str, page: Page) -> None:
    by_cell = {
        (one["subject"], one["task"], one["connections"]): one for one in expected(made_up())
    }
    names = [one["name"] for one in page.data("drawings")["subjects"]]
    seen = 0
    for section in text.split('<section class="task"')[1:]:
        task = re.search(r"<h2[^>]*>([^<]*)</h2>", section)
        assert task is not None
        for row in re.findall(r"<tr data-subject.*?</tr>", section, re.S):
            at, connections = re.findall(r'data-(?:subject|connections)="(\d+)"', row)
            cell = by_cell[names[int(at)], task[1], int(connections)]
            for key, value in re.findall(r'data-figure="([^"]*)" data-value="([^"]*)"', row):
                figure = cell
                for part in key.split(".", 1):
                    figure = figure[part]
                if key == "errors":
                    figure = sum(figure.values())
                elif isinstance(figure, dict):
                    figure = figure["median"]
                assert figure == float(value), (key, cell["subject"])
                seen += 1
    assert seen > 200


def test_every_server_is_drawn_in_every_workload(page: Page) -> None:
    data = page.data("drawings")
    for one in data["drawings"]:
        assert {trace["meta"]["subject"] for trace in one["traces"]} == {0, 1, 2, 3} or (
            # What was not measured has a row of words in bars, and no line.
            one["kind"] == "lines" and len(one["traces"]) >= 3
        )


def test_it_says_what_was_typed_where_and_what_came_out(page: Page) -> None:
    words = "".join(page.words)
    for one in [
        f"echoframe compare --handler '{HOSTILE}'", "CPython 3.13.0", "2 cores", "not complete",
        "closed and open loop", "3 rounds", f"loop wins {HOSTILE}", "no difference",
        f"a remark: {HOSTILE}", f"it has died: {HOSTILE}", "generator-bound", "unserved", "2 reset",
        "it was interrupted", "20,000 messages a second are planned",
    ]:  # fmt: skip
        assert one in words, one


def test_nothing_from_outside_becomes_html_or_script(text: str, page: Page) -> None:
    # HOSTILE stands in every place that a result has for words.
    assert text.count("&lt;/script&gt;&lt;img") > 10
    assert page.all("img") == []
    assert not [one for _, one in page.elements if any(name.startswith("on") for name in one)]
    assert [name for name, _ in page.scripts] == ["figures", "drawings", None, None]
    assert "<!--" not in dict(page.scripts)["figures"] + dict(page.scripts)["drawings"]
    assert page.data("drawings")["subjects"][3]["name"] == HOSTILE


def test_it_loads_nothing(text: str, page: Page) -> None:
    for _, attributes in page.elements:
        assert not {"src", "href", "srcset", "action", "data", "poster"} & set(attributes)
    own = text.replace(page.scripts[2][1], "")
    assert "http:" not in own
    assert "https:" not in own
    assert "url(" not in own
    assert "@import" not in own
    (policy,) = [
        one["content"]
        for one in page.all("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy


def test_it_can_be_read_without_seeing_it(page: Page) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("title")) == len(page.all("main")) == len(page.all("h1")) == 1
    drawings = [one for one in page.all("div") if one.get("class") == "drawing"]
    assert len(drawings) == len(page.data("drawings")["drawings"])
    for one in drawings:
        assert one["role"] == "img"
        assert "single: " in one["aria-label"]
    assert all("scope" in one for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [one["id"] for _, one in page.elements if "id" in one]
    assert len(ids) == len(set(ids))
    labels = [one["aria-labelledby"] for _, one in page.elements if "aria-labelledby" in one]
    assert set(labels) <= set(ids)


def test_the_best_are_marked_with_whatever_does_not_differ(text: str) -> None:
    table = re.search(r'<table class="glance">.*?</table>', text, re.S)
    assert table is not None
    bold = re.findall(r"<strong>(.*?)</strong>", table[0])
    # Of echo the fourth; nobody was quicker with the crowd; of the others the fourth again,
    # and of drain the third, as the fourth had died.
    assert bold.count("400 ms") == 4
    assert "≥ 30.1 k" in bold
    assert "10.1 k" not in bold


def test_several_results_are_one_page_laid_side_by_side() -> None:
    pytest.importorskip("plotly", reason="pages need plotly: pip install 'echoframe[report]'")
    before, after = made_up(), made_up(2.0)
    text = render([before, after], ["before", f"after {HOSTILE}"])
    page = Page(text)
    first, second = page.data("figures")["runs"]
    assert (first["title"], second["title"]) == ("before", f"after {HOSTILE}")
    assert (first["cells"], second["cells"]) == (expected(before), expected(after))
    drawings = page.data("drawings")
    assert [one["name"] for one in drawings["runs"]] == ["before", f"after {HOSTILE}"]
    assert drawings["runs"][0]["dash"] != drawings["runs"][1]["dash"]
    assert drawings["runs"][0]["pattern"] != drawings["runs"][1]["pattern"]
    for one in drawings["drawings"]:
        assert {trace["meta"]["run"] for trace in one["traces"]} == {0, 1}
    assert page.all("img") == []


@pytest.mark.parametrize("empty", [Result("bench", "", "", ""), Result("compare", "", "", "")])
def test_a_result_with_nothing_in_it_is_a_page_too(empty: Result) -> None:
    pytest.importorskip("plotly", reason="pages need plotly: pip install 'echoframe[report]'")
    page = Page(render([empty]))
    assert page.data("figures")["runs"][0]["cells"] == []


def test_what_many_models_refuse_stands_once_in_each_place() -> None:
    pytest.importorskip("plotly", reason="pages need plotly: pip install 'echoframe[report]'")
    result = made_up()
    refused = result.subjects[0].name
    for cell in result.cells:
        if cell.subject == refused:
            cell.rounds, cell.failure = [], "it awaits nothing"
    page = Page(render([result]))
    words = "".join(page.words)
    # At a glance, and in the list of what went wrong; the drawings have their own.
    assert words.count("it awaits nothing") == 2


def test_no_drawing_leaves_half_a_row_empty() -> None:
    def laid(*wide: bool) -> list[bool]:
        return _whole_rows([Drawing("bars", "", "", [], wide=one) for one in wide])

    assert laid(False, True) == [True, True]
    assert laid(False, False, True) == [False, False, True]
    assert laid(True, False, False) == [True, False, False]
    assert laid(False, False, False) == [False, False, True]


def test_where_plotly_is_missing_its_install_line_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(SettingError, match=r"pip install 'echoframe\[report\]'"):
        render([made_up()])


def test_a_spread_is_plain_data() -> None:
    # What numbers_of() gives must go into JSON, whatever figures() learns to say.
    assert json.dumps(numbers_of(Sheet([made_up()])))
    assert asdict(Spread(1.0, 0.5, 2.0)) == {"median": 1.0, "low": 0.5, "high": 2.0}


# ---------------------------------------------------------------- in a browser

# Bars that are drawn, and what they are drawn of.
DRAWN = """[...document.querySelectorAll('.drawing')].map(el => ({
  id: el.id,
  shown: !el.closest('[hidden]'),
  traces: (el.data || []).map(t => ({subject: t.meta.subject, run: t.meta.run, role: t.meta.role,
    visible: t.visible, x: t.x, y: t.y, colour: (t.marker || {}).color || (t.line || {}).color})),
  marks: el.querySelectorAll('.trace, .bars .point').length,
}))"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PRESS = "[...document.querySelectorAll(`{}`)].forEach(one => one.click())"


def _some(speed: float = 1.0) -> Result:
    # Of each kind of drawing one or two: this is about the page, and each redraw costs.
    result = made_up(speed)
    result.tasks = [task for task in result.tasks if task.name in ("echo", "wait")]
    result.cells = [
        cell for cell in result.cells if cell.task in ("echo", "wait") and cell.connections < 100
    ]
    return result


@pytest.mark.slow
@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium to look at the page with: apt-get install chromium"
)
def test_in_a_browser_it_is_drawn_whole_at_every_width(tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="pages need plotly: pip install 'echoframe[report]'")
    file = tmp_path / "page.html"
    file.write_text(render([_some()]), "utf-8")
    several = render([_some(), _some(2.0)], ["before", "after"])
    with chromium(tmp_path / "profile") as browser:
        browser.show(file, 1440)
        _all_is_there(browser, [_some()])
        _one_press_hides_a_server_everywhere(browser)
        browser.resize(820)
        _all_is_there(browser, [_some()])
        _another_number_of_connections_is_drawn(browser)
        _the_theme_can_be_chosen(browser)
        browser.resize(360)
        _all_is_there(browser, [_some()])
        _it_can_be_printed(browser)
        # Reading plotly costs more than all the rest: another page takes its place and
        # finds it there.
        body, _, _ = several.partition("<body>")[2].partition("<script>")
        browser.run(f"document.body.innerHTML = {json.dumps(body)}; {Page(several).scripts[3][1]}")
        browser.drawn()
        _all_is_there(browser, [_some(), _some(2.0)])
        assert browser.complaints() == []


def _all_is_there(browser: Browser, results: list[Result]) -> None:
    assert browser.run(OVERFLOW) == 0
    assert browser.run("document.images.length") == 0
    figured = browser.run("JSON.parse(document.getElementById('figures').textContent)")
    assert [run["cells"] for run in figured["runs"]] == [expected(one) for one in results]
    given = browser.run("JSON.parse(document.getElementById('drawings').textContent)")
    _every_trace_is_there(given, browser.run(DRAWN))


def _every_trace_is_there(given: dict[str, Any], drawn: list[dict[str, Any]]) -> None:
    assert [one["id"] for one in drawn] == [one["id"] for one in given["drawings"]]
    assert any(one["shown"] for one in drawn)
    for wanted, found in zip(given["drawings"], drawn, strict=True):
        if not found["shown"]:
            continue
        assert found["marks"] > 0
        assert len(found["traces"]) == len(wanted["traces"])
        for trace, seen in zip(wanted["traces"], found["traces"], strict=True):
            assert {key: seen[key] for key in ("subject", "run", "role")} == {
                key: trace["meta"][key] for key in ("subject", "run", "role")
            }
            # The figures as they were given, and a place for each of them.
            assert seen["x"] == trace["x"]
            assert len(seen["y"]) == len(trace["x"])
            assert seen["visible"] is True
            if trace["meta"]["role"] in ("bar", "line", "mark", "served"):
                assert seen["colour"] in (
                    given["subjects"][trace["meta"]["subject"]][theme]
                    for theme in ("light", "dark")
                )


def _hidden(browser: Browser) -> set[int]:
    return {
        trace["subject"]
        for one in browser.run(DRAWN)
        for trace in one["traces"]
        if trace["visible"] is False
    }


def _one_press_hides_a_server_everywhere(browser: Browser) -> None:
    browser.run(PRESS.format(".chip[data-subject='1']"))
    browser.drawn()
    assert _hidden(browser) == {1}
    for one in browser.run(DRAWN):
        for trace in one["traces"]:
            assert trace["visible"] is (trace["subject"] != 1)
    browser.run(PRESS.format("#all"))
    browser.drawn()
    assert _hidden(browser) == set()


def _another_number_of_connections_is_drawn(browser: Browser) -> None:
    before = {one["id"] for one in browser.run(DRAWN) if one["shown"]}
    browser.run(PRESS.format("input[value='1']"))
    browser.drawn()
    drawn = browser.run(DRAWN)
    after = {one["id"] for one in drawn if one["shown"]}
    assert after != before
    assert all(one["marks"] for one in drawn if one["shown"])


def _the_theme_can_be_chosen(browser: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    browser.run(PRESS.format("#theme"))
    browser.drawn()
    assert browser.run(ground) != light
    given = browser.run("JSON.parse(document.getElementById('drawings').textContent)")
    for one in browser.run(DRAWN):
        for trace in one["traces"]:
            if trace["role"] == "bar" and one["shown"]:
                assert trace["colour"] == given["subjects"][trace["subject"]]["dark"]


def _it_can_be_printed(browser: Browser) -> None:
    widths = "[...document.querySelectorAll('.main-svg')].map(one => one.clientWidth)"
    opened = "document.querySelectorAll('details[open]').length"
    browser.run("dispatchEvent(new Event('beforeprint'))")
    # All that is shown, two in a row or one that is as wide as the sheet.
    assert set(browser.run(widths)) - {0} == {310, 650}
    assert browser.run(opened) == 2
    for one in browser.run(DRAWN):
        assert not one["shown"] or one["traces"]
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.drawn()
    assert browser.run(opened) == 0
