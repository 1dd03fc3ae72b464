"""The pages: Markdown files of this folder, with their tables filled in from the code. Reads the files, nothing else.

A page begins with its title as a heading and one paragraph that says what it is about; both stand in ``/llms.txt``.
``<!-- name: argument -->`` on a line of its own stands for a table of :mod:`meshnode.api.docs.tables`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent
HOME: Final = "index"
"""The page at ``/docs`` itself."""
REFERENCE: Final = "reference"
"""The page that is made whole from the OpenAPI document; it has no file."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Begin": (HOME, "quickstart", "programs", "agents"),
    "Ask": ("chat", "responses", "messages", "completions", "embeddings", "rerank", "prompts", "models"),
    "Later": ("jobs", "batches"),
    "Know": ("streaming", "errors", "fields", "routing", "keys"),
    "Run": ("node", "client", "settings", REFERENCE),
}
"""Every page under its heading, in the order of the list beside them."""
PLACE: Final = "http://127.0.0.1:9337"
"""Where the pages say that the node is; replaced by where it is."""
_TABLE: Final = re.compile(r"^<!-- (\w[\w ]*?)(?:: ([\w ]+))? -->$", re.MULTILINE)


class Page(NamedTuple):
    """One page; ``text`` is Markdown, without markers."""

    name: str
    title: str
    summary: str
    text: str

    @property
    def path(self) -> str:
        """Where it is."""
        return "/docs" if self.name == HOME else f"/docs/{self.name}"


def load(tables: Mapping[str, Callable[[str], str]], reference: str, *, place: str = PLACE) -> dict[str, Page]:
    """All pages by name, in their order. ``tables`` make Markdown of an argument, ``reference`` is made."""
    found = {}
    for name in (name for names in GROUPS.values() for name in names):
        text = reference if name == REFERENCE else (FOLDER / f"{name}.md").read_text(encoding="utf-8")
        found[name] = page(name, filled(text, tables).replace(PLACE, place))
    return found


def page(name: str, text: str) -> Page:
    """A page of its text."""
    title, _, rest = text.partition("\n")
    summary = rest.strip().partition("\n\n")[0].replace("\n", " ")
    return Page(name, title.removeprefix("# ").strip(), summary, text)


def filled(text: str, tables: Mapping[str, Callable[[str], str]]) -> str:
    """The text with its tables. Raises LookupError for a table that nobody makes."""
    return _TABLE.sub(lambda match: tables[match[1]](match[2] or "").rstrip("\n"), text)


def llms(pages: Sequence[Page], *, place: str = PLACE) -> str:
    """The list of pages in the format of llms.txt (llmstxt.org): a title, a quotation, lists of links."""
    by_name = {each.name: each for each in pages}
    lines = ["# meshnode", "", f"> {by_name[HOME].summary}", ""]
    for group, names in GROUPS.items():
        lines += [f"## {group}", ""]
        for each in (by_name[name] for name in names):
            lines.append(f"- [{each.title}]({place}{each.path}.md): {each.summary}")
        lines.append("")
    lines += ["## Optional", "", f"- [OpenAPI 3.1 document]({place}/openapi.json): every path, body, answer and error."]
    return "\n".join([*lines, ""])


def llms_full(pages: Sequence[Page]) -> str:
    """All pages in one text, the list of pages left out."""
    return "\n\n".join(each.text.rstrip("\n") for each in pages) + "\n"
