"""Tables say what the code does."""

from __future__ import annotations

import pytest

from meshnode.api.chat_schema import ChatFields
from meshnode.api.docs.tables import Tables, errors, headers, table
from meshnode.api.openapi.effects import no_effect, refusals
from meshnode.api.openapi.table import ENDPOINTS
from meshnode.settings import SETTINGS

TABLES = Tables(ENDPOINTS)


def first_cells(markdown: str) -> set[str]:
    return {line.split(" | ")[0].strip("| `") for line in markdown.splitlines()[2:]}


def test_every_field_stands_in_exactly_one_table() -> None:
    honoured, idle, refused = (
        first_cells(make("ChatFields")) for make in (TABLES.fields, TABLES.no_effect, TABLES.refused)
    )
    assert set(ChatFields.__struct_fields__) <= honoured | idle
    assert refused == set(refusals(ChatFields))
    assert idle == set(no_effect(ChatFields))
    assert not honoured & idle


def test_a_field_has_its_range() -> None:
    assert "| `temperature` | a number from 0 to 2 |" in TABLES.fields("ChatFields")
    assert "| `messages` | an array of 1 to 65536 messages |" in TABLES.fields("ChatFields")


def test_endpoints_of_one_room_or_all() -> None:
    assert "/v1/embeddings" in TABLES.endpoints("")
    assert "/v1/embeddings" not in TABLES.endpoints("Chat")
    assert "the owner" in TABLES.endpoints("Mesh")


def test_errors_headers_and_settings_are_those_of_the_code() -> None:
    assert "| 503 | `model_loading` |" in errors()
    assert "after 2 s" in errors()
    assert "port_in_use" not in errors()
    assert "`x-mesh-route`" in headers()
    made = TABLES.all()
    assert all(f"`{setting.flag}`" in made["settings"]("") for setting in SETTINGS)


def test_the_clients_methods_are_those_it_has() -> None:
    methods = TABLES.all()["client"]("")
    assert "| `tokenize(text, model)` | The token ids of a text. |" in methods
    assert "_http" not in methods


def test_a_bar_in_a_cell_is_no_border() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |\n"


def test_an_unknown_body_is_no_empty_table() -> None:
    with pytest.raises(LookupError):
        TABLES.fields("Nonsense")
