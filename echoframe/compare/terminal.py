"""Results as text for a terminal: a table for each workload, and what must be said to it.

At 80 columns it is whole; where there are more, it shows more. Colour only repeats what
is there without it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from .columns import NOTHING, Column, Sheet, at_least, bound_note, footnotes, per_second, sheet
from .failures import KINDS, refusals
from .figures import FAR, differ, figures
from .measures import MEASURES, Measure, main
from .result import Cell, Result, Task
from .units import clean, count, few, listed, plainly
from .workload import CROWD, HOLD

__all__ = ["LEAST_WIDTH", "label", "paint", "render", "wrap"]

# On less, numbers would be cut.
LEAST_WIDTH = 60

_GAP = "  "
# How long a bar is: what is left over, between these.
_SHORT_BAR, _LONG_BAR = 6, 24

_COLOURS = {"title": "1", "dim": "2", "best": "32", "wrong": "31", "bar": "36"}


def render(
    results: Sequence[Result],
    width: int,
    colour: bool = False,
    *,
    titles: Sequence[str] = (),
    plain: bool = False,
) -> str:
    """Give a result as tables; several side by side, with the ratio of each to the first.

    `titles` name several, as in ["before", "after"]. `plain` keeps to ASCII.
    """
    width = max(width, LEAST_WIDTH)
    page = _Page(width, colour)
    if len(results) == 1:
        _one(page, results[0])
    else:
        _several(page, results, [title or "" for title in titles])
    text = "\n".join(page.lines).strip("\n") + "\n"
    return plainly(text) if plain else text


def paint(text: str, style: str, colour: bool) -> str:
    """Give text in the colour of a style: title, dim, best, wrong or bar."""
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if colour and text.strip() else text


def wrap(sentence: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Break a sentence into lines."""
    found = textwrap.wrap(
        sentence,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    return found or [first.rstrip()]


class _Page:
    """Lines, and how wide they may be."""

    def __init__(self, width: int, colour: bool) -> None:
        self.width = width
        self.colour = colour
        self.lines: list[str] = []
        self._noted: set[str] = set()

    def paint(self, text: str, style: str) -> str:
        return paint(text, style, self.colour)

    def say(self, sentence: str, style: str = "") -> None:
        for line in wrap(sentence, self.width):
            self.lines.append(self.paint(line, style) if style else line)

    def note(self, sentence: str) -> None:
        """Explain something, if that has not been done yet."""
        if sentence not in self._noted:
            self._noted.add(sentence)
            self.say(sentence)

    def gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def head(self, name: str, rest: str) -> None:
        """Begin a workload."""
        self.gap()
        lines = wrap(f"{name}: {rest}" if rest else name, self.width)
        if lines[0].startswith(name):
            lines[0] = self.paint(name, "title") + lines[0][len(name) :]
        self.lines += lines


# ------------------------------------------------------------------ one result


def _one(page: _Page, result: Result) -> None:
    page.say(_surroundings(result), "dim")
    notes = [f"{one.name}: {one.note}" for one in result.subjects if one.note]
    if notes:
        page.say(clean("; ".join(notes)), "dim")
    empty = []
    for task in result.tasks:
        counts = result.connections(task.name)
        measured = [one for one in counts if _is_measured(result, task, one)]
        if not measured:
            empty += [clean(task.name)] if counts else []
            continue
        page.head(clean(task.name), _what(task, counts))
        if len(counts) > 1:
            _matrices(page, result, task, measured)
            page.gap()
            page.lines.append(f"With {count(measured[-1], 'connection')}:")
        _table(page, sheet(result, task, measured[-1]))
    if empty:
        page.gap()
        page.say(f"Nothing was measured in {listed(empty)}.")
    _remarks(page, result)


def _is_measured(result: Result, task: Task, connections: int) -> bool:
    where = (task.name, connections)
    return any(cell.rounds and (cell.task, cell.connections) == where for cell in result.cells)


def _remarks(page: _Page, result: Result) -> None:
    said = [clean(remark).rstrip(".") + "." for remark in result.remarks]
    if _wants_psutil(result):
        said.append(
            "CPU time, memory and threads are not there, which psutil would tell: "
            "pip install 'echoframe[sys]'"
        )
    if said:
        page.gap()
        for sentence in said:
            page.say(sentence)


def _wants_psutil(result: Result) -> bool:
    """Tell whether there would be more if psutil were installed."""
    if result.kind == "bench" or result.environment.get("psutil") is not None:
        # The processes of a server that runs elsewhere are not to be seen.
        return False
    ended = {task.name for task in result.tasks if task.stops}
    rounds = [one for cell in result.cells if cell.task not in ended for one in cell.rounds]
    return bool(rounds) and all(one.cpu is None and one.memory is None for one in rounds)


def _surroundings(result: Result) -> str:
    known = result.environment
    python = " ".join(str(known[key]) for key in ("implementation", "python") if key in known)
    on = " ".join(str(known[key]) for key in ("system", "machine") if key in known)
    parts = [result.command, " on ".join(filter(None, (python, on)))]
    cores = known.get("cores_usable", known.get("cores"))
    if isinstance(cores, int):
        parts.append(count(cores, "core"))
    if isinstance(load := known.get("load"), int | float):
        parts.append(f"load {load:.1f} before")
    if len(when := result.made.partition(".")[0].replace("T", " ")) >= 16:
        parts.append(when[:16] + (" UTC" if "+00:00" in result.made or "Z" in result.made else ""))
    return clean(", ".join(filter(None, parts)))


def _what(task: Task, counts: list[int]) -> str:
    words = [clean(task.what)]
    if task.beside and "beside" not in task.what:
        words.append(f"beside {clean(task.beside).removeprefix('beside ')}")
    if task.way not in (CROWD, HOLD) and len(counts) == 1 and str(counts[0]) not in task.what:
        words.append(count(counts[0], "connection"))
    if task.rate is not None:
        words.append(f"{few(task.rate)} messages a second planned")
    return ", ".join(words)


def _table(page: _Page, found: Sheet) -> None:
    names = {name: clean(name) for name in found.subjects}
    room = _room(page, names.values())
    columns, widths = _fitting(found.columns, page.width - room)
    for line in (0, 1):
        # A title of one line stands directly above its column.
        titles = [
            column.title[line] if all(column.title) else "".join(column.title) if line else ""
            for column in columns
        ]
        row = [title.rjust(width) for title, width in zip(titles, widths, strict=True)]
        page.lines.append(page.paint(_GAP.join([" " * room, *row]).rstrip(), "dim"))
    for subject in found.subjects:
        name = _cut(names[subject], room).ljust(room)
        if subject in found.missing:
            # Where there is no figure, the reason stands.
            for line_ in wrap(found.missing[subject], page.width - room - len(_GAP)):
                page.lines.append(name + _GAP + page.paint(line_, "wrong"))
                name = " " * room
            continue
        row = [
            _value(page, column, subject, width)
            for column, width in zip(columns, widths, strict=True)
        ]
        page.lines.append(_GAP.join([name, *row]).rstrip())
    for note in footnotes(found.task, columns):
        page.note(note)
    for note in found.notes:
        page.say(note)
    if found.left_out:
        page.note(f"Not measured: {listed(map(clean, found.left_out))}.")
    for kind in found.errors:
        if kind in KINDS:
            page.note(f"{kind}: {KINDS[kind]}.")


def _value(page: _Page, column: Column, subject: str, width: int) -> str:
    if column.bars:
        return page.paint(_bar(column.bars.get(subject, 0.0), width), "bar")
    style = "best" if subject in column.best else "wrong" if subject in column.wrong else ""
    text = column.cells[subject].rjust(width)
    return page.paint(text, style) if style else text


def _fitting(columns: list[Column], room: int) -> tuple[list[Column], list[int]]:
    """Choose the columns that fit, and how wide each is."""
    widths = {
        id(column): _SHORT_BAR
        if column.bars
        else max(map(len, (*column.title, *column.cells.values())))
        for column in columns
    }
    taken = set()
    for column in sorted(columns, key=lambda one: one.rank):
        if (wide := widths[id(column)] + len(_GAP)) <= room:
            taken.add(id(column))
            room -= wide
    found = [column for column in columns if id(column) in taken]
    for column in found:
        if column.bars:
            widths[id(column)] = min(_SHORT_BAR + room, _LONG_BAR)
    return found, [widths[id(column)] for column in found]


def _room(page: _Page, names: Iterable[str]) -> int:
    """Give how wide the column of the names is."""
    wide = list(map(len, names))
    # An address stands alone, and is cut where it says the most.
    return min(max(wide, default=0), max(12, page.width // (5 if len(wide) > 1 else 2)))


def _bar(share: float, width: int) -> str:
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[rest]).ljust(width)


def _cut(name: str, room: int) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"


# ------------------------------------------------------------------ an axis of connections


def _matrices(page: _Page, result: Result, task: Task, counts: list[int]) -> None:
    refused = refusals(result)
    subjects = [
        subject.name
        for subject in result.subjects
        if subject.name not in refused
        and any(result.cell(subject.name, task.name, one) for one in counts)
    ]
    measures = dict.fromkeys([main(task), MEASURES["p99"], MEASURES["p50"]])
    blocks = [_matrix(result, task, counts, subjects, measure) for measure in measures]
    shown = _beside(page, subjects, [block for block in blocks if block])
    signs = "".join(line for block in shown for line in block)
    if "≥" in signs:
        page.note(bound_note(task))
    if "!" in signs:
        page.note("! not everybody was served, or there were errors.")
    if NOTHING in signs:
        page.note(f"{NOTHING} not measured, or too few messages for that percentile.")


def _matrix(
    result: Result, task: Task, counts: list[int], subjects: list[str], measure: Measure
) -> list[str]:
    """Give a title, the numbers of connections, and a line for each subject, or nothing."""
    rows = [
        [_entry(result.cell(name, task.name, one), measure) for one in counts] for name in subjects
    ]
    if all(text == NOTHING + " " for row in rows for text in row):
        return []
    return _block_of(f"{_title(task, measure)}, by connections", [f"{n:,} " for n in counts], rows)


def _entry(cell: Cell | None, measure: Measure) -> str:
    if cell is None or not cell.rounds:
        return NOTHING + " "
    found = figures(cell)
    value = measure.of(cell, found)
    if value is None:
        return NOTHING + " "
    sign = at_least(found) if measure.name == "throughput" else ""
    return sign + measure.text(value) + ("!" if found.unserved or found.errors else " ")


def _title(task: Task, measure: Measure) -> str:
    if measure.name == "throughput":
        return " ".join(per_second(task))
    return measure.name if measure.name in ("p50", "p99", "memory") else measure.what


def _block_of(title: str, heads: list[str], rows: list[list[str]]) -> list[str]:
    """Give lines of one width."""
    widths = [max(len(head), *(len(row[at]) for row in rows)) for at, head in enumerate(heads)]
    lines = [
        " ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
        for row in (heads, *rows)
    ]
    wide = max(len(title), len(lines[0]))
    return [title.ljust(wide), *(line.ljust(wide) for line in lines)]


def _beside(page: _Page, subjects: list[str], blocks: list[list[str]]) -> list[list[str]]:
    """Write names and blocks side by side; give the blocks for which there was room."""
    names = [clean(name) for name in subjects]
    room = _room(page, names)
    lines = [" " * room] * 2 + [_cut(name, room).ljust(room) for name in names]
    shown: list[list[str]] = []
    for block in blocks:
        if shown and len(lines[0]) + 3 + len(block[0]) > page.width:
            break
        lines = [line + "   " + more for line, more in zip(lines, block, strict=True)]
        shown.append(block)
    for at, line in enumerate(lines):
        page.lines.append(page.paint(line.rstrip(), "dim") if at < 2 else line.rstrip())
    return shown


# ------------------------------------------------------------------ several results


def _several(page: _Page, results: Sequence[Result], titles: Sequence[str]) -> None:
    letters = [label(at) for at in range(len(results))]
    for letter, result, title in zip_longest(letters, results, titles[: len(results)]):
        said = f"{letter}  {clean(title)}: " if title else f"{letter}  "
        for line in wrap(said + _surroundings(result), page.width, rest="   "):
            page.lines.append(page.paint(line, "dim"))
    for name, connections in _laid_out(results):
        task = next(one.task(name) for one in results if _has(one, name))
        _side_by_side(page, results, letters, task, connections)
    for letter, result in zip(letters, results, strict=True):
        if not result.complete:
            page.gap()
            page.say(f"{letter} was not run to its end: what is missing was not measured.")


def label(at: int) -> str:
    """Give the name under which one of several results stands in tables: A, B, C."""
    return chr(ord("A") + at) if at < 26 else f"#{at + 1}"


def _has(result: Result, task: str) -> bool:
    return any(one.name == task for one in result.tasks)


def _laid_out(results: Sequence[Result]) -> list[tuple[str, int]]:
    """Give the workloads and connections of all of them, those of the first one first."""
    names = dict.fromkeys(task.name for result in results for task in result.tasks)
    return [
        (name, connections)
        for name in names
        for connections in sorted({one for result in results for one in result.connections(name)})
    ]


def _side_by_side(
    page: _Page, results: Sequence[Result], letters: Sequence[str], task: Task, connections: int
) -> None:
    subjects = list(
        dict.fromkeys(
            cell.subject
            for result in results
            for cell in result.cells
            if cell.task == task.name and cell.connections == connections
        )
    )
    page.head(clean(task.name), count(connections, "connection"))
    measures = dict.fromkeys([main(task), MEASURES["p99"], MEASURES["memory"]])
    blocks = [
        _block(results, letters, task, connections, subjects, measure) for measure in measures
    ]
    shown = _beside(page, subjects, [block for block in blocks if block])
    if any("=" in line for block in shown for line in block):
        page.note("= the rounds show no difference.")
    if any("?" in line for block in shown for line in block):
        page.note("? the rounds are too few, or too uneven, to show whether that is so.")


def _block(
    results: Sequence[Result],
    letters: Sequence[str],
    task: Task,
    connections: int,
    subjects: Sequence[str],
    measure: Measure,
) -> list[str]:
    """Give one measure of all results, with ratios, or nothing."""
    rows = []
    for name in subjects:
        cells = [result.cell(name, task.name, connections) for result in results]
        values = [
            None if cell is None or not cell.rounds else measure.of(cell, figures(cell))
            for cell in cells
        ]
        row = [NOTHING if value is None else measure.text(value) for value in values]
        for value, cell in zip(values[1:], cells[1:], strict=True):
            row.append(_ratio(measure, values[0], cells[0], value, cell))
        rows.append(row)
    if all(text[:1] == NOTHING for row in rows for text in row):
        return []
    heads = [*letters, *(f"{letter}/{letters[0]} " for letter in letters[1:])]
    return _block_of(_title(task, measure), heads, rows)


def _ratio(
    measure: Measure,
    first: float | None,
    first_cell: Cell | None,
    value: float | None,
    cell: Cell | None,
) -> str:
    if not first or value is None or first_cell is None or cell is None:
        return NOTHING + " "
    own, other = measure.each(first_cell), measure.each(cell)
    same = bool(own and other) and not differ(own, other)
    sign = " "
    if same:
        # What looks like a difference and is not shown to be one is not called none.
        sign = "=" if 1 / FAR < value / first < FAR else "?"
    return f"×{value / first:.2f}{sign}"
