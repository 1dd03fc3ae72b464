"""The house's rules as functions over source text: each returns the breaches it finds, as lines for people."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
BANNED_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "core", "manager", "base", "misc"})
VIRTUAL_CLOCKS = frozenset({"autojump_clock", "mock_clock"})
UNFINISHED = re.compile(r"TODO|FIXME|XXX|NotImplementedError|[Nn]ot implemented")
_SHARED = (Path("/"), Path(tempfile.gettempdir()))  # a checkout right in one of these gives nothing away
_HERE = [f"{folder}/" for folder in (Path.home(), Path(__file__).parents[3]) if folder not in _SHARED]
MACHINE_PATHS = re.compile(r"/root/|/tmp/[a-z]/|py[p]i\.org|python[h]osted|" + "|".join(map(re.escape, _HERE)))
"""Where this checkout and its user live, scratch folders, hosts of registries (written so as to name none)."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(top-level module, line) of every absolute import, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0], node.lineno


def wrong_doors(path: str, text: str, doors: Mapping[str, Iterable[str]]) -> list[str]:
    """Imports of a foreign library outside its door; ``doors`` has files and folders (ending in a slash)."""
    return [
        f"{path}:{line}: {library} is imported only in {', '.join(doors[library])}"
        for library, line in imported(ast.parse(text))
        if library in doors and not any(path == d or (d.endswith("/") and path.startswith(d)) for d in doors[library])
    ]


def oversized(path: str, text: str) -> list[str]:
    """A file or functions longer than the house allows."""
    lines = text.count("\n")
    found = [f"{path}: {lines} lines, {MAX_FILE_LINES} are allowed"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION_LINES} are allowed")
    return found


def undocumented(path: str, text: str) -> list[str]:
    """A module, public class, function or method without a docstring."""
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else [f"{path}: the module has no docstring"]
    return found + [f"{path}:{node.lineno}: {node.name} has no docstring" for node in _public(tree.body) if _bare(node)]


def _public(body: Iterable[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def _bare(node: Function | ast.ClassDef) -> bool:
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
    # The body of a protocol's property is ``...``: it declares an attribute, and attributes are told of in the class.
    attribute = "property" in marks and ast.unparse(node.body[0]) == "..."
    return not ast.get_docstring(node) and not attribute and not marks & {"overload", "setter", "override"}


def crowded_packages(path: str, text: str) -> list[str]:
    """Anything but the docstring (and the version, at the top) in a package's ``__init__.py``."""
    rest = ast.parse(text).body[1:]
    version = [node for node in rest if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"]
    return [f"{path}:{node.lineno}: a package holds only its docstring" for node in rest if node not in version]


def banned_names(path: str) -> list[str]:
    """A file or folder whose name says nothing."""
    parts = [PurePosixPath(part).stem for part in PurePosixPath(path).parts]
    return [f"{path}: {part} says nothing about what is inside" for part in parts if part in BANNED_NAMES]


def mirror_of(module: str) -> str:
    """Where the tests of ``meshnode/room/file.py`` stand."""
    path = PurePosixPath(module)
    return str(PurePosixPath("tests/unit", *path.parts[1:-1], f"test_{path.name}"))


def unmirrored(modules: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Modules without a test file of the same name, and unit tests of no module."""
    wanted = {mirror_of(module): module for module in modules}
    there = set(tests)
    missing = [f"{module} has no {mirror}" for mirror, module in wanted.items() if mirror not in there]
    return missing + [f"{test} mirrors no module" for test in sorted(there - wanted.keys())]


def sleeps(path: str, text: str) -> list[str]:
    """Calls of ``sleep`` in a test that has no virtual clock.

    Two things are no sleeping: ``sleep(0)``, which is a checkpoint, and a function called ``until``, which polls a fact
    of another process. What stands in the kit may take trio's time, as a test can make that virtual.
    """
    banned = r"(?:time\.)?sleep" if path.startswith("tests/kit/") else r"(?:(?:trio|time)\.)?sleep(?:_until)?"
    return [
        f"{path}:{call.lineno}: sleeps; wait for the event itself, or use a virtual clock"
        for call in _calls(ast.parse(text), excused=False)
        if re.fullmatch(banned, ast.unparse(call.func))
        and not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)
    ]


def _calls(node: ast.AST, *, excused: bool) -> Iterator[ast.Call]:
    """Every call that is not inside a function that takes a virtual clock or polls."""
    if isinstance(node, Function):
        clocked = any(argument.arg in VIRTUAL_CLOCKS for argument in node.args.args)
        excused = excused or clocked or node.name == "until"
    if isinstance(node, ast.Call) and not excused:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, excused=excused)


def matches(pattern: re.Pattern[str], path: str, text: str) -> list[str]:
    """Lines that hold what ``pattern`` finds."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{path}:{number}: {found[0]}" for number, line in lines if (found := pattern.search(line))]


def between(text: str, name: str) -> str:
    """What stands in a Markdown text between ``<!-- name -->`` and ``<!-- /name -->``."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise LookupError(f"no <!-- {name} --> … <!-- /{name} --> in the text")
    return found[1].strip()
