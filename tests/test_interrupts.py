"""Ctrl-C may come between any two steps of a program, and no try may be passed by."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import echoframe

HOME = Path(echoframe.__file__).parent

# Where the main thread never is, where Ctrl-C is not raised, or where it ends the program anyway.
MAY = {
    "Talk._answer": "asyncio raises it in its loop",
    "Talk._offer": "asyncio raises it in its loop",
    "Errand._run": "asyncio raises it in its loop",
    "_each": "asyncio raises it in its loop",
    "_Thread.run": "a thread",
    "Workers.work": "a thread",
    "Handover.take": "the program has not begun",
    "_connect": "the program has not begun",
}


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def bare_jumps(code: CodeType) -> Iterator[int]:
    """The lines where a loop goes back in a try, and that step is not in it."""
    # As 3.13 has it, which the type checker's oldest Python has not.
    made: Any = dis.Bytecode(code)
    tries = made.exception_entries
    if code.co_flags & inspect.CO_GENERATOR:
        # All of it stands in one that Python has put there.
        tries = [entry for entry in tries if entry.target != tries[-1].target]

    def around(offset: int) -> set[int]:
        return {entry.target for entry in tries if entry.start <= offset < entry.end}

    before = None
    for step in made:
        if step.opname == "JUMP_BACKWARD" and before is not None:
            inside = around(before.offset) & around(step.argval)
            if inside - around(step.offset):
                yield step.line_number or 0
        before = step


@pytest.mark.skipif(sys.version_info < (3, 13), reason="reads the code as 3.13 has it")
@pytest.mark.parametrize("path", ["servers", "client.py"])
def test_no_loop_stands_in_a_try_that_ctrl_c_must_not_pass_by(path: str) -> None:
    whole = HOME / path
    for file in [whole] if whole.is_file() else sorted(whole.glob("*.py")):
        for code in codes(compile(file.read_text(), str(file), "exec")):
            found = set(bare_jumps(code))
            # Python does not count the jump back of a loop as part of the try around it: it is
            # thought to raise nothing. Have another function do the looping.
            assert not found or code.co_qualname in MAY, f"{file.name}: {code.co_qualname} {found}"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="reads the code as 3.13 has it")
def test_such_a_loop_is_found() -> None:
    text = "def f(end):\n try:\n  while g():\n   h()\n finally:\n  end()\n"
    (code,) = (code for code in codes(compile(text, "f", "exec")) if code.co_name == "f")
    assert list(bare_jumps(code)) == [3]
