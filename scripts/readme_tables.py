"""Writes the README's generated tables anew: ``.venv/bin/python scripts/readme_tables.py``; a test compares them."""

from __future__ import annotations

import inspect
from pathlib import Path

from meshnode import errors, settings

README = Path(__file__).resolve().parent.parent / "README.md"


def exit_codes() -> str:
    """The table of the errors' exit codes: code, the errors that have it, what the first of them means."""
    groups: dict[int, list[type[errors.MeshnodeError]]] = {}
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.MeshnodeError) and kind is not errors.MeshnodeError:
            groups.setdefault(kind.exit_code, []).append(kind)
    rows = ["| exit code | errors | what it means |", "|---|---|---|"]
    for code, kinds in sorted(groups.items()):
        meaning = (inspect.getdoc(kinds[0]) or "").splitlines()[0].replace("``", "`")
        names = ", ".join(f"`{kind.__name__}`" for kind in kinds)
        rows.append(f"| {code} | {names} | {meaning} |")
    return "\n".join(rows)


TABLES = {"settings": lambda: settings.markdown_table().strip(), "exit codes": exit_codes}


def filled(text: str) -> str:
    """``text`` with what stands between each pair of markers made anew."""
    for name, render in TABLES.items():
        before, opening, rest = text.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{opening}{render()}\n{closing}{after}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
