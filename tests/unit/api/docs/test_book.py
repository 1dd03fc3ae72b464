"""The pages as files."""

from __future__ import annotations

import pytest

from meshnode.api.docs.book import FOLDER, GROUPS, HOME, PLACE, REFERENCE, filled, llms, llms_full, load, page
from meshnode.api.docs.tables import Tables
from meshnode.api.openapi.table import ENDPOINTS

PAGES = load(Tables(ENDPOINTS).all(), "# API reference\n\nAll of it.\n")


def test_every_file_is_in_the_list_and_every_entry_has_its_file() -> None:
    listed = {name for names in GROUPS.values() for name in names}
    assert {path.stem for path in FOLDER.glob("*.md")} == listed - {REFERENCE}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_a_title_and_says_what_it_is_about(name: str) -> None:
    found = PAGES[name]
    assert found.title
    assert found.text.startswith("# ")
    assert found.summary.endswith(".")
    assert not found.summary.startswith(("#", "`POST /v1/nothing", "|"))
    assert "<!--" not in found.text


def test_a_marker_becomes_its_table() -> None:
    tables = {"numbers": lambda of: f"| {of} |\n"}
    assert filled("a\n\n<!-- numbers: one two -->\n\nb\n", tables) == "a\n\n| one two |\n\nb\n"
    with pytest.raises(LookupError):
        filled("<!-- nothing -->", tables)


def test_a_page_is_told_by_its_beginning() -> None:
    found = page("x", "# A title\n\nTwo lines\nof it.\n\nMore.\n")
    assert (found.title, found.summary, found.path) == ("A title", "Two lines of it.", "/docs/x")


def test_pages_say_where_the_node_is() -> None:
    moved = load(Tables(ENDPOINTS).all(), "# R\n\nr.\n", place="https://node.example:9443")
    assert "https://node.example:9443/v1" in moved[HOME].text
    assert all(PLACE not in each.text for each in moved.values())


def test_the_list_for_language_models_has_every_page() -> None:
    text = llms(list(PAGES.values()))
    assert text.startswith("# meshnode\n\n> ")
    for each in PAGES.values():
        assert f"({PLACE}{each.path}.md): {each.summary}" in text
    whole = llms_full(list(PAGES.values()))
    assert all(each.text.rstrip("\n") in whole for each in PAGES.values())
