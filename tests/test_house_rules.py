"""The house's rules that no linter can say, executed; and each rule shown to fail on a small bad example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import readme_tables
from meshnode import errors
from meshnode.settings import SETTINGS
from tests.kit import house

ROOT = Path(__file__).parent.parent

DOORS = {
    "llama_cpp": ["meshnode/engine/llama/"],
    "jinja2": ["meshnode/engine/templates.py", "meshnode/engine/template_sandbox.py"],
    "llguidance": ["meshnode/engine/constrain/matcher.py"],
    "libp2p": ["meshnode/net/"],
    "multiaddr": ["meshnode/net/"],
    "zeroconf": ["meshnode/net/"],
    "sqlite3": ["meshnode/storage/database.py"],
    "quart": ["meshnode/api/"],
    "quart_trio": ["meshnode/api/"],
    "werkzeug": ["meshnode/api/"],
    "hypercorn": ["meshnode/api/"],
    "httpx2": ["meshnode/client.py", "meshnode/client_trio.py", "meshnode/client_road.py", "meshnode/models/fetch.py"],
    "markdown_it": ["meshnode/api/docs/html.py"],
    "prometheus_client": ["meshnode/observe.py"],
    "cryptography": ["meshnode/identity.py", "meshnode/api/tls.py", "meshnode/storage/vault.py"],
    "click": ["meshnode/cli/"],
    "rich": ["meshnode/cli/"],
}
"""Foreign libraries and the only files or folders that may import them: what lies behind can then be replaced."""


TESTED_ELSEWHERE = {
    "meshnode/node.py": "tests/integration/test_node.py",
}
"""Modules whose tests have another name: implementations share the suite of their protocol."""


def sources(*folders: str, suffix: str = ".py") -> dict[str, str]:
    """Path from the root, and text, of every source file under ``folders``."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob(f"*{suffix}"))]
    kept = [path for path in files if path.is_file() and not {"__pycache__", "golden"} & set(path.parts)]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in kept}


def everything() -> dict[str, str]:
    """Every text file of the project, whatever it is written in."""
    found = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("*.*") if path.is_file()}
    for folder in ("meshnode", "tests", "scripts", "systemd", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8", errors="ignore")
    return found


def check(rule: Callable[[str, str], list[str]], files: dict[str, str]) -> None:
    """Fails with every breach at once."""
    breaches = [breach for path, text in files.items() for breach in rule(path, text)]
    assert not breaches, "\n" + "\n".join(breaches)


def code_only(files: dict[str, str]) -> dict[str, str]:
    """Without the rules and their bad examples."""
    return {
        path: text for path, text in files.items() if path not in ("tests/kit/house.py", "tests/test_house_rules.py")
    }


# --- the rules ------------------------------------------------------------------------------------


def test_each_foreign_library_has_one_door() -> None:
    check(lambda path, text: house.wrong_doors(path, text, DOORS), sources("meshnode"))


def test_files_and_functions_are_short() -> None:
    check(house.oversized, sources("meshnode", "tests", "scripts"))


def test_everything_public_is_documented() -> None:
    check(house.undocumented, sources("meshnode", "scripts"))
    check(
        lambda path, text: [each for each in house.undocumented(path, text) if "the module has" in each],
        sources("tests"),
    )


def test_packages_hold_only_their_docstring() -> None:
    check(house.crowded_packages, sources("meshnode", "tests", "scripts", suffix="__init__.py"))


def test_names_say_what_is_inside() -> None:
    check(lambda path, _: house.banned_names(path), sources("meshnode", "tests", "scripts"))


def test_each_module_has_its_tests() -> None:
    modules = [path for path in sources("meshnode") if not path.endswith(("__init__.py", "__main__.py"))]
    tests = [path for path in sources("tests/unit") if Path(path).name.startswith("test_")]
    ours = [path for path in tests if not path.startswith(("tests/unit/provision/", "tests/unit/benchmark/"))]
    elsewhere = {module for module, test in TESTED_ELSEWHERE.items() if (ROOT / test).is_file()}
    stale = elsewhere - set(modules) | {m for m in elsewhere if house.mirror_of(m) in ours}
    breaches = house.unmirrored([m for m in modules if m not in elsewhere], ours)
    breaches += [f"{module} needs no exception" for module in sorted(stale)]
    assert not breaches, "\n" + "\n".join(breaches)


def test_tests_do_not_sleep() -> None:
    check(house.sleeps, sources("tests"))


def test_nothing_is_left_for_later() -> None:
    check(
        lambda path, text: house.matches(house.UNFINISHED, path, text),
        code_only(sources("meshnode", "scripts", "tests")),
    )


def test_nothing_names_a_machine_or_a_registry() -> None:
    check(lambda path, text: house.matches(house.MACHINE_PATHS, path, text), code_only(everything()))


def test_the_locks_hold_only_hashed_requirements() -> None:
    for path, text in sources("scripts/requirements", suffix=".lock").items():
        requirements = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
        assert all("==" in each and "--hash=sha256:" in each for each in requirements), path


def test_the_test_lock_holds_all_that_the_run_lock_does() -> None:
    run, test = (
        set(re.findall(r"^\S+==\S+", (ROOT / f"scripts/requirements/{name}.lock").read_text(), re.MULTILINE))
        for name in ("run", "test")
    )
    assert run
    assert run <= test


# --- what is drawn and written is what is -------------------------------------------------------


def drawn_errors() -> dict[str, tuple[str, str, int, int]]:
    """Name -> (parent, whose fault, HTTP status, exit code) of the tree drawn on top of ``errors.py``."""
    found: dict[str, tuple[str, str, int, int]] = {}
    above = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        row = re.match(r"    ([│├└─ ]*)(\w+) +(caller|owner|node|peer|whose fault) +(\d+|HTTP) +(\d+|exit)$", line)
        if row is None:
            continue
        depth = len(row[1]) // 4
        del above[depth + 1 :]
        if row[3] != "whose fault":
            found[row[2]] = (above[-1], row[3], int(row[4]), int(row[5]))
        above.append(row[2])
    return found


def real_errors() -> dict[str, tuple[str, str, int, int]]:
    """The same of the classes themselves, without the root."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.MeshnodeError)]
    rows: dict[str, tuple[str, str, int, int]]
    rows = {k.__name__: (k.__mro__[1].__name__, k.fault, k.status, k.exit_code) for k in kinds}
    rows.pop("MeshnodeError")
    return rows


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    assert drawn_errors() == real_errors()


def test_the_readme_lists_every_exit_code() -> None:
    table = house.between((ROOT / "README.md").read_text(encoding="utf-8"), "exit codes")
    listed = {
        (name, int(code))
        for code, names in re.findall(r"^\| (\d+) \| ([^|]*) \|", table, re.MULTILINE)
        for name in names.replace("`", "").split(", ")
    }
    assert listed == {(name, row[3]) for name, row in real_errors().items()}


def test_the_readmes_tables_are_those_of_the_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{setting.flag}`" in house.between(text, "settings") for setting in SETTINGS)
    assert readme_tables.filled(text) == text, "run .venv/bin/python scripts/readme_tables.py"


# --- each rule can fail ---------------------------------------------------------------------------

LONG = "def f():\n" + "    x = 1\n" * house.MAX_FUNCTION_LINES
BAD = [
    (lambda: house.wrong_doors("meshnode/api/x.py", "import sqlite3\n", DOORS), "sqlite3"),
    (lambda: house.wrong_doors("meshnode/api/x.py", "def f():\n    from libp2p.peer import id\n", DOORS), "libp2p"),
    (lambda: house.oversized("x.py", "x = 1\n" * (house.MAX_FILE_LINES + 1)), "401 lines"),
    (lambda: house.oversized("x.py", LONG), "f has 41 lines"),
    (lambda: house.undocumented("x.py", "x = 1\n"), "module has no docstring"),
    (
        lambda: house.undocumented("x.py", '"""M."""\nclass C:\n    """C."""\n    def m(self): ...\n'),
        "m has no docstring",
    ),
    (lambda: house.crowded_packages("x/__init__.py", '"""X."""\nfrom x.y import z\n'), "only its docstring"),
    (lambda: house.banned_names("meshnode/engine/utils.py"), "utils says nothing"),
    (lambda: house.unmirrored(["meshnode/wire/frames.py"], []), "has no tests/unit/wire/test_frames.py"),
    (lambda: house.unmirrored([], ["tests/unit/wire/test_gone.py"]), "mirrors no module"),
    (lambda: house.sleeps("x.py", "async def test_x():\n    await trio.sleep(0.1)\n"), "sleeps"),
    (lambda: house.sleeps("x.py", "import time\ntime.sleep(1)\n"), "sleeps"),
    (lambda: house.sleeps("tests/kit/x.py", "import time\ntime.sleep(1)\n"), "sleeps"),
    (lambda: house.matches(house.UNFINISHED, "x.py", "x = 1  # TO" + "DO: y\n"), "x.py:1"),
    (lambda: house.matches(house.MACHINE_PATHS, "x.py", f"{Path.home()}/x"), "x.py:1"),
]


@pytest.mark.parametrize(("rule", "said"), BAD, ids=range(len(BAD)))
def test_each_rule_finds_its_bad_example(rule: Callable[[], list[str]], said: str) -> None:
    assert any(said in breach for breach in rule())


GOOD = [
    lambda: house.wrong_doors("meshnode/storage/database.py", "import sqlite3\n", DOORS),
    lambda: house.oversized("x.py", LONG.removesuffix("    x = 1\n")),
    lambda: house.undocumented("x.py", '"""M."""\nclass _C:\n    def m(self): ...\n'),
    lambda: house.crowded_packages("x/__init__.py", '"""X."""\n__version__ = "1"\n'),
    lambda: house.unmirrored(["meshnode/domain.py"], ["tests/unit/test_domain.py"]),
    lambda: house.sleeps("x.py", "async def test_x(autojump_clock):\n    await trio.sleep(9)\n"),
    lambda: house.sleeps("x.py", "async def test_x():\n    await trio.sleep(0)\n"),
    lambda: house.sleeps("x.py", "async def until(fact):\n    while not fact():\n        await trio.sleep(0.01)\n"),
    lambda: house.undocumented(
        "x.py", '"""M."""\nclass C(Protocol):\n    """C."""\n    @property\n    def a(self): ...\n'
    ),
]


@pytest.mark.parametrize("rule", GOOD, ids=range(len(GOOD)))
def test_each_rule_leaves_what_is_right_alone(rule: Callable[[], list[str]]) -> None:
    assert rule() == []


def test_a_missing_marker_is_said() -> None:
    with pytest.raises(LookupError, match="settings"):
        house.between("# meshnode\n", "settings")
