"""The imports against the picture: they point one way, and to the standard library.

    cli
    compare     testing     admin     adopt
    servers     client
    session     transports
    handlers
    framing     address
    errors      version     printing

A file may import from the rows below its own and from its own package. What is
imported for type checkers alone does not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import echoframe

ROOT = Path(echoframe.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

ROWS = [
    {"errors", "version", "printing"},
    {"framing", "address", "deadlines"},
    {"handlers"},
    {"session", "transports"},
    {"servers", "client", "probing"},
    {"compare", "testing", "admin", "adopt"},
    {"cli"},
    # The public face, and `python -m echoframe`.
    {"__init__"},
    {"__main__"},
]
ROW_OF = {part: row for row, parts in enumerate(ROWS) for part in parts}

# Who may not know of sockets, and who may not know of threads and clocks either.
SOCKETS = {"socket", "socketserver", "ssl", "select", "selectors", "asyncio", "_socket"}
CONCURRENCY = {"threading", "_thread", "multiprocessing", "concurrent", "signal", "subprocess"}
CLOCKS = {"time", "sched", "datetime"}


def part_of(file: Path) -> str:
    """The box of the picture in which a file stands."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imports(nodes: list[ast.stmt], functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements, inside functions too or not."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if functions:
                yield from imports(node.body, functions)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(node.orelse, functions)
        else:
            for block in ("body", "orelse", "finalbody"):
                yield from imports(getattr(node, block, []), functions)
            for inner in [*getattr(node, "handlers", []), *getattr(node, "cases", [])]:
                yield from imports(inner.body, functions)


def imported(file: Path, functions: bool = True) -> Iterator[str]:
    """The modules that a file imports, in full: echoframe.handlers.base, os.path."""
    package = ["echoframe", *file.relative_to(ROOT).parent.parts]
    for node in imports(ast.parse(file.read_text(), str(file)).body, functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *filter(None, [node.module])])
        # `from . import errors` names a module only in the list behind it.
        yield from (f"{module}.{alias.name}" for alias in node.names)


def parts_used(file: Path) -> set[str]:
    found = set()
    for name in imported(file):
        first, _, rest = name.partition(".")
        if first == "echoframe":
            part = rest.partition(".")[0]
            here = (ROOT / part).is_dir() or (ROOT / f"{part}.py").exists()
            found.add(part if part and here else "__init__")
    return found


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


every_file = pytest.mark.parametrize("file", FILES, ids=name_of)


@every_file
def test_every_file_has_its_place_in_the_picture(file: Path) -> None:
    assert part_of(file) in ROW_OF


@every_file
def test_imports_point_down(file: Path) -> None:
    own = part_of(file)
    wrong = {part for part in parts_used(file) - {own} if ROW_OF[part] >= ROW_OF[own]}
    assert not wrong, f"{name_of(file)} may not import {', '.join(sorted(wrong))}"


@every_file
def test_the_core_needs_the_standard_library_alone(file: Path) -> None:
    known = sys.stdlib_module_names | {"echoframe"}
    foreign = {name.partition(".")[0] for name in imported(file, functions=False)} - known
    assert not foreign, f"{name_of(file)} needs {', '.join(sorted(foreign))}"


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if part_of(file) in ("errors", "framing", "handlers", "session")],
    ids=name_of,
)
def test_bytes_without_sockets_threads_or_clocks(file: Path) -> None:
    forbidden = SOCKETS | CONCURRENCY | CLOCKS
    if file.name == "samples.py":
        # Waiting is what two of them are for.
        forbidden = forbidden - {"time", "asyncio"}
    assert {name.partition(".")[0] for name in imported(file)}.isdisjoint(forbidden)


def test_the_picture_is_read_from_the_files() -> None:
    # That the tests above see anything at all.
    assert {"errors", "framing", "handlers"} <= parts_used(ROOT / "session.py")
    assert "address" in parts_used(ROOT / "transports" / "__init__.py")
    assert "importlib" in {
        name.partition(".")[0] for name in imported(ROOT / "handlers" / "registry.py")
    }
    assert "importlib.metadata.entry_points" not in set(
        imported(ROOT / "handlers" / "registry.py", functions=False)
    )


def test_importing_echoframe_pulls_in_nothing_heavy() -> None:
    heavy = ["argparse", "ssl", "asyncio", "importlib.metadata", "multiprocessing", "email"]
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT.parent)!r})\n"
        "import echoframe, echoframe.handlers, echoframe.session, echoframe.transports\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])\n"
    )
    # -I and -S: what an installation adds to each start is not ours.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == []
