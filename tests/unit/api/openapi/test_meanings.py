"""Every field is told of, and nothing that is none."""

from __future__ import annotations

from meshnode.api.openapi.effects import foreign, no_effect, reason, refusals
from meshnode.api.openapi.meanings import INSIDE, MEANINGS, meaning
from meshnode.api.openapi.table import ENDPOINTS

BODIES = list(dict.fromkeys(kind for each in ENDPOINTS for kind in each.bodies))


def fields(kind: type) -> list[str]:
    return [name for name in getattr(kind, "__struct_fields__", ()) if name not in foreign(kind)] + [*refusals(kind)]


def told(kind: type, name: str) -> bool:
    return bool(meaning(kind, name) or no_effect(kind).get(name) or reason(kind, name))


def test_every_field_of_a_body_has_its_sentence() -> None:
    silent = [(kind.__name__, name) for kind in BODIES for name in fields(kind) if not told(kind, name)]
    assert silent == [], "say in api/openapi/meanings.py what they do"


def test_no_sentence_is_about_nothing() -> None:
    inner = {"include_usage"}  # of stream_options
    assert set(MEANINGS) - {name for kind in BODIES for name in fields(kind)} <= inner


def test_sentences_end_as_such() -> None:
    tables = [MEANINGS, *INSIDE.values()]
    assert [text for table in tables for text in table.values() if not text.endswith(".")] == []


def test_a_structs_own_sentence_goes_first() -> None:
    class MessageFields:
        """Not the real one; only the name counts."""

    assert meaning(MessageFields, "name") == INSIDE["MessageFields"]["name"]
    assert meaning(MessageFields, "temperature") == MEANINGS["temperature"]
    assert meaning(MessageFields, "nonsense") == ""
