"""The drawing of a crowd: who waits, who is served, on one axis for all."""

from __future__ import annotations

import pytest

from echoframe.compare.result import Cell, Person
from echoframe.compare.timeline import REPLY, SERVED, WAITING, render

from .samples import ECHO, WAIT, crowd, five, result


def drawn(*cells: Cell, width: int = 80, plain: bool = False) -> list[str]:
    return render(result(*cells, tasks=[WAIT]), width, plain=plain).splitlines()


def rows(lines: list[str]) -> list[str]:
    """The rows of clients, without name and time."""
    first = next(at for at, line in enumerate(lines) if "┼" in line)
    margin = lines[first].index("┼")
    return [line[margin : line.rindex("  ")] for line in lines[first + 1 :]]


def test_a_staircase_is_one() -> None:
    found = rows(drawn(crowd("single", 1)))
    starts = [row.index(SERVED) for row in found]
    ends = [row.rindex(SERVED) for row in found]
    assert len(found) == 6
    assert starts == sorted(set(starts))
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
    # Each waits from the first moment until it is served.
    assert all(row.startswith(WAITING * start) for row, start in zip(found, starts, strict=True))


def test_who_is_served_together_stands_together() -> None:
    found = rows(drawn(crowd("thread", 20)))
    assert len({row.index(SERVED) for row in found}) == 1


def test_all_servers_share_one_axis() -> None:
    lines = drawn(crowd("single", 1), crowd("thread", 20))
    found = rows(lines)
    assert len(found) == 12
    # What takes 20 ms of 400 is about a twentieth, on both.
    widths = {row.count(SERVED) for row in found}
    assert max(widths) - min(widths) <= 1
    assert found[5].rindex(REPLY) > 10 * found[6].rindex(REPLY)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(crowd("single", 1), crowd("a-rather-long-name-of-a-server", 20), width=width)
    assert max(map(len, lines)) <= width


def test_legend_scale_and_how_many_are_shown() -> None:
    text = "\n".join(drawn(crowd("single", 1)))
    assert f"{WAITING} waits" in text
    assert f"{SERVED} is served" in text
    assert "6 of 20 clients of each server" in text
    assert "100 ms" in text
    few = "\n".join(drawn(crowd("single", 1, clients=3)))
    assert "All clients of each server" in few


def test_the_first_and_the_last_are_among_the_chosen() -> None:
    lines = drawn(crowd("single", 1))
    times = [line.rsplit("  ", 1)[1].strip() for line in lines if line.endswith("ms")]
    assert times[-6] == "20.2 ms"
    assert times[-1] == "400 ms"


def test_who_is_never_served_waits_to_the_end() -> None:
    cell = crowd("single", 1)
    cell.timeline[3] = Person(0.0)
    lines = drawn(cell)
    assert lines[-1].endswith("never")
    row = rows(lines)[-1]
    assert set(row.strip()) == {WAITING}
    assert len(row.rstrip()) > max(one.rindex(REPLY) for one in rows(lines)[:-1])


def test_who_was_served_briefly_is_seen_all_the_same() -> None:
    cell = crowd("loop", 20)
    cell.timeline = [Person(0.0, 0.01, 0.010001, 0.0101), Person(0.0, 0.9, 0.95, 1.0)]
    assert all(SERVED in row for row in rows(drawn(cell)))


def test_a_server_that_nobody_looked_into_waits_and_replies() -> None:
    cell = crowd("foreign", 20)
    cell.timeline = [Person(0.0, replied=0.02), Person(0.001, replied=0.021)]
    lines = drawn(cell)
    assert not any(SERVED in row for row in rows(lines))
    assert "When foreign began with each is not known." in " ".join(lines)


def test_plain_is_ascii() -> None:
    lines = drawn(crowd("single", 1), plain=True)
    assert all(line.isascii() for line in lines)
    assert any("##|" in line for line in lines)
    assert [len(line) for line in lines] == [len(line) for line in drawn(crowd("single", 1))]


def test_colour_only_repeats_what_is_there() -> None:
    made = result(crowd("single", 1), tasks=[WAIT])
    painted = render(made, 80, True)
    for code in ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"):
        assert code in painted
        painted = painted.replace(code, "")
    assert painted == render(made, 80)


def test_nothing_to_draw_is_nothing() -> None:
    assert render(result(Cell("loop", "echo", 50, five(10)), tasks=[ECHO]), 80) == ""


def test_all_at_the_same_moment_is_no_division_by_zero() -> None:
    cell = crowd("loop", 20)
    cell.timeline = [Person(0.0), Person(0.0, 0.0, 0.0, 0.0)]
    assert "never" in "\n".join(drawn(cell))
    # A damaged file's.
    cell.timeline = [Person(-1.0, -1.0, -1.0, -1.0)]
    assert drawn(cell)
