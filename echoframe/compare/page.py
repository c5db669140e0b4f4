"""Results as one HTML file: it needs no network, no other file and no storage.

page.css and page.js stand beside this file and are put into the page whole, as plotly's
own script is. What is drawn is worked out in drawings.py.

Everything in a result comes from outside, names of servers and their sentences too:
it goes through escape() into the HTML and through _script_json() into scripts. The
page itself forbids its browser to load anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib.resources import files
from itertools import count as numbers
from typing import Any

from ..errors import SettingError
from . import failures
from .drawings import (
    DASHES,
    PATTERNS,
    Drawing,
    Entry,
    Sheet,
    count,
    draw,
    rate_of,
    reach,
    said_of,
)
from .figures import PERCENTILES, Spread, differ
from .result import Result, Task
from .units import duration, size
from .workload import CROWD, HOLD

__all__ = ["numbers_of", "render"]

# Nothing but what stands in the page itself.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)


def render(
    results: Sequence[Result], titles: Sequence[str] = (), sentences: Sequence[str] = ()
) -> str:
    """Give results as a page, laid side by side if there are several.

    `titles` name the results, `sentences` are the verdict.

    Errors: SettingError where plotly is not installed.
    """
    plotly = _plotly()
    sheet = Sheet(results, titles)
    ids = (f"drawing-{at}" for at in numbers(1))
    drawings: list[dict[str, Any]] = []
    sections = [_section(sheet, task, ids, drawings) for task in sheet.tasks]
    kind = "bench" if all(one.kind == "bench" for one in results) else "compare"
    title = f"echoframe {kind}" + (f": {', '.join(sheet.titles)}" if sheet.several else "")
    data = {
        "subjects": [
            {"name": one.name, **asdict(look)}
            for one, look in zip(sheet.subjects, sheet.looks, strict=True)
        ],
        "runs": [
            {"name": one, "dash": DASHES[at % len(DASHES)], "pattern": PATTERNS[at % len(PATTERNS)]}
            for at, one in enumerate(sheet.titles)
        ],
        "drawings": drawings,
    }
    main = [
        _head(sheet, kind),
        _verdict(sentences),
        _glance(sheet),
        *sections,
        _troubles(sheet),
        _servers(sheet),
        _reading(),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="echoframe">
<title>{escape(title)}</title>
<style>
{_beside("page.css")}
{_colours(sheet)}
</style>
</head>
<body>
{_bar(sheet)}
<main>
{"".join(part for part in main if part)}
</main>
<footer>Made by echoframe {escape(", ".join(sorted({one.version for one in results})))};
this file needs nothing else, and loads nothing.</footer>
<script type="application/json" id="figures">{_script_json(numbers_of(sheet))}</script>
<script type="application/json" id="drawings">{_script_json(data)}</script>
<script>{plotly}</script>
<script>
{_beside("page.js")}
</script>
</body>
</html>
"""


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise SettingError(
            "the page is drawn by plotly, which is not installed: "
            "pip install 'echoframe[report]', or export JSON, CSV or Markdown"
        ) from None
    # A script ends at these letters, wherever they stand in it.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _beside(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _script_json(data: object) -> str:
    # In a script nothing is unescaped, and "</script>" or "<!--" would end it.
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def numbers_of(sheet: Sheet) -> dict[str, Any]:
    """Give all figures of a page as plain data: what figures() says of each cell."""
    cells: list[list[dict[str, Any]]] = [[] for _ in sheet.results]
    for one in sheet.entries:
        found = {name: value for name, value in vars(one.figures).items() if name != "histogram"}
        for name, value in found.items():
            if isinstance(value, Spread):
                found[name] = asdict(value)
        found["latency"] = {
            f"{percent:g}": asdict(value) for percent, value in one.figures.latency.items()
        }
        cells[one.run].append(
            {
                "subject": one.cell.subject,
                "task": one.cell.task,
                "connections": one.cell.connections,
                "rounds": len(one.cell.rounds),
                "failure": one.cell.failure,
                "ready": one.cell.ready,
                "stop": one.cell.stop,
                **found,
            }
        )
    runs = zip(sheet.titles, sheet.results, cells, strict=True)
    return {
        "runs": [
            {"title": title, "made": result.made, "command": result.command, "cells": own}
            for title, result, own in runs
        ]
    }


def _colours(sheet: Sheet) -> str:
    both = (f"--s{at}:light-dark({look.light},{look.dark})" for at, look in enumerate(sheet.looks))
    return f":root{{{';'.join(both)}}}"


def _bar(sheet: Sheet) -> str:
    chips = [
        f'<button type="button" class="chip" aria-pressed="true" data-subject="{at}">'
        f'<svg class="swatch" data-subject="{at}" width="26" height="12" aria-hidden="true">'
        f"</svg>{escape(subject.name)}</button>"
        for at, subject in enumerate(sheet.subjects)
    ]
    if sheet.several:
        chips.append('<span class="between" aria-hidden="true"></span>')
        chips.extend(
            f'<button type="button" class="chip" aria-pressed="true" data-run="{at}">'
            f'<svg class="swatch" data-run="{at}" width="26" height="12" aria-hidden="true"></svg>'
            f"{escape(title)}</button>"
            for at, title in enumerate(sheet.titles)
        )
    return f"""<div class="bar">
<div class="chips" role="group" aria-label="Servers that are drawn">{"".join(chips)}</div>
<button type="button" id="all" hidden>Show all</button>
<button type="button" id="theme" aria-label="Dark or light">◐</button>
</div>"""


def _head(sheet: Sheet, kind: str) -> str:
    models = sum(1 for one in sheet.subjects if one.model)
    if kind == "bench":
        title = "One server, measured"
    elif models == len(sheet.subjects):
        title = "The same handler on every model" if models > 1 else "One model, measured"
    else:
        title = "The same conversation, on every server"
    runs = []
    for name, result in zip(sheet.titles, sheet.results, strict=True):
        label = f"<strong>{escape(name)}</strong> " if sheet.several else ""
        state = "" if result.complete else '<span class="badge">not complete</span>'
        where = " · ".join(escape(one) for one in _circumstances(result) if one)
        runs.append(
            f'<div class="run">{label}<code>{escape(result.command)}</code>{state}'
            f'<p class="circumstances">{where}</p></div>'
        )
    return f"<header><h1>{title}</h1>{''.join(runs)}</header>\n"


def _circumstances(result: Result) -> Iterator[str]:
    """Where and when it was measured, and what limits it."""
    known = dict(result.environment)
    yield " ".join(str(known.pop(one)) for one in ("implementation", "python") if one in known)
    yield " ".join(str(known.pop(one)) for one in ("system", "machine") if one in known)
    cores, usable = known.pop("cores", None), known.pop("cores_usable", None)
    if cores is not None:
        some = "" if usable in (None, cores) else f", {usable} of them usable"
        yield f"{cores} core{'' if cores == 1 else 's'}{some}"
    if (load := known.pop("load", None)) is not None:
        yield f"load {load} before"
    if (pinned := known.pop("pinned", None)) is not None:
        yield "pinned" if pinned else "not pinned"
    loops = {"closed" if one.rate is None else "open" for one in result.tasks}
    if loops:
        yield f"{' and '.join(sorted(loops))} loop"
    rounds = sorted({len(one.rounds) for one in result.cells if one.rounds})
    if rounds:
        many = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        yield f"{many} round{'' if rounds == [1] else 's'}"
    others = [r.others for cell in result.cells for r in cell.rounds if r.others is not None]
    if others:
        yield f"others took up to {max(others):.0%} of the cores"
    for name, value in known.items():
        yield f"{name.replace('_', ' ')} {value}"
    yield f"echoframe {result.version}"
    yield result.made.replace("T", " ").replace("+00:00", " UTC")


def _verdict(sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(one)}</li>" for one in sentences)
    return (
        '<section class="verdict" aria-labelledby="verdict"><h2 id="verdict">Verdict</h2>'
        f"<ul>{items}</ul></section>\n"
    )


# ---------------------------------------------------------------- at a glance


def _main_figure(task: Task, one: Entry) -> tuple[float | None, list[float], str]:
    """The one figure of a workload: its value, its rounds', and how it is said."""
    found = one.figures
    if task.way == HOLD:
        memory = found.memory_each
        return memory, [], "" if memory is None else size(memory)
    if task.way == CROWD:
        spread, own = found.finished, [r.seconds for r in one.cell.rounds]
        return (None, [], "") if spread is None else (spread.median, own, duration(spread.median))
    if task.rate is not None:
        # So many were planned for everybody; who kept up is told by how late they were.
        late = found.latency.get(99.0)
        known = [r.latency.percentile(99.0) for r in one.cell.rounds]
        own = [value for value in known if value is not None]
        return (None, [], "") if late is None else (late.median, own, duration(late.median))
    spread = found.per_second
    own = [r.messages / r.seconds if r.seconds else 0.0 for r in one.cell.rounds]
    if spread is None:
        return None, [], ""
    return spread.median, own, ("≥ " if found.bound else "") + count(spread.median)


def _main_words(task: Task) -> tuple[str, str]:
    if task.way == HOLD:
        return "memory each", "less is better"
    if task.way == CROWD:
        return "until all were served", "less is better"
    if task.rate is not None:
        return f"p99 at {task.rate:,.0f} a second", "less is better"
    return rate_of(task).lower(), "more is better"


def _glance(sheet: Sheet) -> str:
    """One figure for each server and workload."""
    if len(sheet.subjects) * len(sheet.results) < 2:
        return ""
    columns = [(task, sheet.usual(task)) for task in sheet.tasks]
    columns = [(task, at) for task, at in columns if at is not None]
    rows = [(at, run) for at in range(len(sheet.subjects)) for run in range(len(sheet.results))]
    refused = [failures.refusals(one) for one in sheet.results]
    head = '<th scope="col">server</th>'
    cells: dict[tuple[int, int], str] = dict.fromkeys(rows, "")
    for task, connections in columns:
        what, better = _main_words(task)
        head += (
            f'<th scope="col">{escape(task.name)}<small>{connections:,} '
            f"connection{'' if connections == 1 else 's'}<br>{what}<br>{better}</small></th>"
        )
        entries = {(one.at, one.run): one for one in sheet.of(task, connections)}
        told = {where: _main_figure(task, one) for where, one in entries.items()}
        values = [
            value
            for where, (value, _, _) in told.items()
            if value is not None and not entries[where].figures.unserved
        ]
        top = max(values, default=0.0)
        best = _best(told, entries, less="less" in better)
        for where in rows:
            if where not in told or told[where][0] is None:
                why = entries[where].cell.failure if where in entries else "not measured"
                cells[where] += f'<td class="none"><small>{escape(why or "not known")}</small></td>'
                continue
            value, _, text = told[where]
            unserved = entries[where].figures.unserved
            # Of a few clients it would be longer than it is worth.
            share = (value or 0.0) / top if top and not unserved else 0.0
            under = f"<small>{unserved:,} unserved</small>" if unserved else ""
            said = f"<strong>{text}</strong>" if where in best else text
            cells[where] += (
                f'<td>{said}<span class="share" style="--share:{share:.4f};'
                f'--own:var(--s{where[0]})"></span>{under}</td>'
            )
    for at, run in rows:
        # Its reason stands once.
        if reason := refused[run].get(sheet.subjects[at].name):
            cells[at, run] = (
                f'<td class="failure" colspan="{len(columns)}"><small>{escape(reason)}</small></td>'
            )
    body = "".join(
        f'<tr data-subject="{at}" data-run="{run}"><th scope="row">{_named(sheet, at, run)}</th>'
        f"{cells[at, run]}</tr>"
        for at, run in rows
    )
    return f"""<section aria-labelledby="glance"><h2 id="glance">At a glance</h2>
<div class="box" tabindex="0" role="region" aria-label="At a glance: table">
<table class="glance"><caption><span>Bold: the best, and whatever its rounds do not show to differ
from it. The length of a line is the figure itself; who left clients unserved has
none.</span></caption><thead><tr>{head}</tr></thead>
<tbody>{body}</tbody></table></div></section>
"""


def _best(
    told: dict[tuple[int, int], tuple[float | None, list[float], str]],
    entries: dict[tuple[int, int], Entry],
    less: bool,
) -> set[tuple[int, int]]:
    # Who left others unserved has won nothing, and one round proves nothing.
    fair = {
        where: (value, own)
        for where, (value, own, _) in told.items()
        if value is not None and len(own) > 1 and not entries[where].figures.unserved
    }
    if len(fair) < 2:
        return set()
    choose = min if less else max
    first = choose(fair, key=lambda where: fair[where][0])
    return {where for where in fair if not differ(fair[where][1], fair[first][1])}


def _named(sheet: Sheet, at: int, run: int) -> str:
    which = f" <small>{escape(sheet.titles[run])}</small>" if sheet.several else ""
    return f"{_dot(at)}{escape(sheet.subjects[at].name)}{which}"


def _dot(at: int) -> str:
    return f'<i class="dot" style="--own:var(--s{at})"></i>'


# ---------------------------------------------------------------- a workload


def _section(sheet: Sheet, task: Task, ids: Iterator[str], drawings: list[dict[str, Any]]) -> str:
    curves, by_count = draw(sheet, task)
    usual = sheet.usual(task)
    name = escape(task.name)
    anchor = f"task-{sheet.tasks.index(task)}"
    parts = [f'<section class="task" aria-labelledby="{anchor}"><h2 id="{anchor}">{name}</h2>']
    about = [task.what, f"handler {task.handler}"]
    if task.beside and "beside" not in task.what:
        about.append(f"beside them {task.beside.removeprefix('beside ')}")
    if task.rate is not None:
        about.append(f"{task.rate:,.0f} messages a second are planned, answered or not")
    parts.append(f'<p class="what">{escape("; ".join(filter(None, about)))}</p>')
    if curves:
        parts.append(_figures(curves, ids, drawings))
    if len(by_count) > 1:
        choices = "".join(
            f'<label><input type="radio" name="{anchor}" value="{one}"'
            f"{' checked' if one == usual else ''}><span>{one:,}</span></label>"
            for one in by_count
        )
        parts.append(
            '<fieldset class="counts"><legend>With so many connections:</legend>'
            f"{choices}</fieldset>"
        )
    for one, found in by_count.items():
        hidden = "" if one == usual else " hidden"
        parts.append(
            f'<div class="group" data-group="{anchor}" data-count="{one}"{hidden}>'
            f"{_figures(found, ids, drawings)}</div>"
        )
    parts.append(_table(sheet, task))
    parts.append("</section>\n")
    return "".join(parts)


def _figures(found: list[Drawing], ids: Iterator[str], drawings: list[dict[str, Any]]) -> str:
    parts = []
    for drawing, broad, name in zip(found, _whole_rows(found), ids, strict=False):
        drawings.append(
            {
                "id": name,
                "kind": drawing.kind,
                "unit": drawing.unit,
                "traces": drawing.traces,
                "layout": drawing.layout,
            }
        )
        wide = " wide" if broad else ""
        label = f"{drawing.title}. {drawing.label}"
        parts.append(
            f'<figure class="{drawing.kind}{wide}"><figcaption><strong>{escape(drawing.title)}'
            f"</strong> <span>{escape(drawing.note)}</span></figcaption>"
            f'<div class="drawing" id="{name}" role="img" aria-label="{escape(label)}"></div>'
            "</figure>"
        )
    return f'<div class="figures">{"".join(parts)}</div>'


def _whole_rows(found: list[Drawing]) -> list[bool]:
    """Tell which drawings take a whole row: those that would stand alone in one do, too."""
    wide = [one.wide for one in found]
    left = True
    for at, drawing in enumerate(found):
        if drawing.wide:
            left = True
        elif left and (at + 1 == len(found) or found[at + 1].wide):
            wide[at] = True
        else:
            left = not left
    return wide


_ON_PAPER = {"finished", "per_second", "longest", "unserved", "errors", "cpu", "memory_each"}


@dataclass(frozen=True)
class _Column:
    """A column of the table: what it holds, and how it is said."""

    key: str
    title: str
    of: Callable[[Entry], Any]
    say: Callable[[float], str]
    more: str = ""

    @property
    def kind(self) -> str:
        """Its class: paper is not wide enough for all of them."""
        return "" if self.key in _ON_PAPER or self.key.startswith("latency") else " screen"


def _percentile(percent: float) -> Callable[[Entry], Spread | None]:
    return lambda one: one.figures.latency.get(percent)


def _columns(task: Task) -> list[_Column]:
    found = [
        _Column(
            "per_second",
            rate_of(task).lower().replace(" a second", "/s"),
            lambda one: one.figures.per_second,
            count,
        ),
        *(
            _Column(f"latency.{percent:g}", said_of(percent), _percentile(percent), duration)
            for percent in PERCENTILES
        ),
        _Column("longest", "longest", lambda one: one.figures.longest, duration),
        _Column("unserved", "unserved", lambda one: one.figures.unserved, count),
        _Column("errors", "errors", lambda one: one.figures.errors, count),
        _Column("cpu", "CPU", lambda one: one.figures.cpu, duration, "per 1,000"),
        _Column("switches", "switches", lambda one: one.figures.switches, count, "per 1,000"),
        _Column(
            "memory_each", "memory", lambda one: one.figures.memory_each, size, "per connection"
        ),
        _Column("memory", "memory", lambda one: one.figures.memory, size, "in all"),
        _Column("threads", "threads", lambda one: one.figures.threads, count),
        _Column("processes", "processes", lambda one: one.figures.processes, count),
        _Column("descriptors", "descriptors", lambda one: one.figures.descriptors, count),
        _Column("fairness", "fairness", lambda one: one.figures.fairness, lambda x: f"{x:.2f}"),
        _Column("ready", "ready", lambda one: one.cell.ready, duration, "after start"),
        _Column("stop", "stopped", lambda one: one.cell.stop, duration, "after SIGTERM"),
        _Column("messages", "messages", lambda one: one.figures.messages, count, "in all"),
    ]
    if task.way == CROWD:
        found.insert(
            0, _Column("finished", "all served", lambda one: one.figures.finished, duration)
        )
    return found


def _table(sheet: Sheet, task: Task) -> str:
    refused = [failures.refusals(one) for one in sheet.results]
    entries = [one for one in sheet.of(task) if one.cell.subject not in refused[one.run]]
    many = len(sheet.connections(task)) > 1
    # What nobody has is no column; nobody unserved and no error is a fact worth a zero.
    columns = [
        column
        for column in _columns(task)
        if column.key in ("unserved", "errors")
        or any(column.of(one) not in (None, 0) for one in entries if one.cell.rounds)
    ]
    head = '<th scope="col">server</th>' + ('<th scope="col">connections</th>' if many else "")
    head += "".join(
        f'<th scope="col" class="{column.kind}">{escape(column.title)}'
        f"{f'<small>{column.more}</small>' if column.more else ''}</th>"
        for column in columns
    )
    rows = []
    for one in entries:
        cells = f'<th scope="row">{_named(sheet, one.at, one.run)}</th>'
        if many:
            cells += f"<td>{one.cell.connections:,}</td>"
        if one.cell.rounds:
            cells += "".join(_cell(column, one) for column in columns)
        else:
            why = one.cell.failure or "not measured"
            cells += f'<td class="failure" colspan="{len(columns)}">{escape(why)}</td>'
        rows.append(
            f'<tr data-subject="{one.at}" data-run="{one.run}" '
            f'data-connections="{one.cell.connections}">{cells}</tr>'
        )
    caption = f"All figures of {escape(task.name)}: medians of the rounds, spread under them"
    return (
        f'<details class="all"><summary>All figures of {escape(task.name)}</summary>'
        f'<div class="box" tabindex="0" role="region" aria-label="{caption}"><table>'
        f"<caption><span>{caption}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _cell(column: _Column, one: Entry) -> str:
    value = column.of(one)
    if value is None:
        return f'<td class="none{column.kind}"><span aria-label="not known">-</span></td>'
    if isinstance(value, dict):
        total = sum(value.values())
        kinds = ", ".join(f"{many:,} {kind}" for kind, many in sorted(value.items()))
        under = f"<small>{escape(kinds)}</small>" if value else ""
        warn = "warn" if total else ""
        return _td(column, warn, total, f"{total:,}{under}")
    if isinstance(value, Spread):
        text, number = column.say(value.median), value.median
        around = reach(value, column.say)
        under = f"<small>{around}</small>" if around else ""
        if column.key == "per_second" and one.figures.bound:
            text = f'<abbr title="the load generator was at its end: at least this">≥</abbr> {text}'
            under += "<small>generator-bound</small>"
    else:
        text, number, under = column.say(value), value, ""
    warn = "warn" if column.key == "unserved" and value else ""
    return _td(column, warn, number, text + under)


def _td(column: _Column, warn: str, number: float, said: str) -> str:
    # The figure itself stands beside what is said of it.
    return (
        f'<td class="{warn}{column.kind}" data-figure="{column.key}" '
        f'data-value="{number!r}">{said}</td>'
    )


# ---------------------------------------------------------------- what else is to be said


def _troubles(sheet: Sheet) -> str:
    said: list[str] = []
    for title, result in zip(sheet.titles, sheet.results, strict=True):
        before = f"{title}: " if sheet.several else ""
        said.extend(before + remark for remark in result.remarks)
        if not result.complete:
            said.append(f"{before}not all was measured: it was interrupted, or out of time")
        said.extend(before + sentence for sentence in failures.sentences(result))
    for one in sheet.entries:
        for kind, many in sorted(one.figures.errors.items()):
            explained = f" ({failures.KINDS[kind]})" if kind in failures.KINDS else ""
            said.append(
                f"{sheet.name(one)}, {one.cell.task} with {one.cell.connections:,}: "
                f"{many:,} times {kind}{explained}"
            )
    if not said:
        return ""
    return (
        '<section aria-labelledby="remarks"><h2 id="remarks">What went wrong, and what was left out'
        f"</h2><ul>{_items(said)}</ul></section>\n"
    )


def _items(said: Iterable[str]) -> str:
    return "".join(f"<li>{escape(one)}</li>" for one in said)


def _servers(sheet: Sheet) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_dot(at)}{escape(one.name)}</th>'
        f'<td class="text">{escape(one.note or ("" if one.model else "not one of ours"))}</td>'
        f'<td class="text"><code>{escape(one.command or "")}</code></td></tr>'
        for at, one in enumerate(sheet.subjects)
    )
    return f"""<section aria-labelledby="servers"><h2 id="servers">The servers</h2>
<div class="box" tabindex="0" role="region" aria-label="The servers: table"><table>
<caption>What was started</caption><thead><tr><th scope="col">server</th>
<th scope="col" class="text">note</th><th scope="col" class="text">command</th></tr></thead>
<tbody>{rows}</tbody></table></div></section>
"""


def _reading() -> str:
    terms = [
        ("median and spread", "Each figure is the median of its rounds; beside it, or as "
         "whiskers in a drawing, the lowest and the highest. With fewer than five rounds a "
         "difference is an indication."),
        ("p50, p90, p99, p99.9", "So many of 100 replies came within that time. A percentile "
         "is left out where fewer than ten replies were slower than it, and a curve ends there."),
        ("unserved", "Clients that waited to the end and never heard a word: no error, but no "
         "service either."),
        ("≥, generator-bound", "The load generator was at its end: the server can do at least "
         "this, and perhaps more."),
        ("closed loop, open loop", "Closed: each client asks again when it has its reply, so a "
         "server that stalls is asked less. Open: messages are planned ahead, and latency counts "
         "from the planned moment."),
    ]  # fmt: skip
    items = "".join(f"<dt>{term}</dt><dd>{what}</dd>" for term, what in terms)
    return (
        '<section aria-labelledby="reading"><h2 id="reading">How to read this</h2>'
        f"<dl>{items}</dl></section>\n"
    )
