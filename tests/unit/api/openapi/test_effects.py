"""Which fields change nothing and which are refused, by the tables of the dialects."""

from __future__ import annotations

import re

from meshnode.api import schema
from meshnode.api.chat_schema import ChatFields
from meshnode.api.messages import reasons
from meshnode.api.messages.schema import MessagesFields
from meshnode.api.openapi.bodies import ChatToTokens
from meshnode.api.openapi.effects import IDLE, REFUSED, foreign, no_effect, reason, refusals
from meshnode.api.responses.schema import ResponseFields


def test_nothing_is_served_and_refused_at_once() -> None:
    for kind in REFUSED:
        assert not (set(getattr(kind, "__struct_fields__", ())) - foreign(kind)) & set(refusals(kind)), kind


def test_what_is_made_from_a_body_refuses_the_same() -> None:
    assert set(refusals(ChatToTokens)) == set(refusals(ChatFields))


def test_the_dialects_own_tables_are_the_ones() -> None:
    assert set(no_effect(ChatFields)) <= set(schema.NO_EFFECT)
    assert no_effect(MessagesFields)["cache_control"] == reasons.NO_EFFECT["cache_control"]
    assert no_effect(MessagesFields)["metadata"] == reasons.NO_EFFECT["metadata"]
    assert "metadata" not in no_effect(ResponseFields), "a response repeats it"


def test_no_reason_is_about_a_field_that_is_not_there() -> None:
    for kind, table in IDLE.items():
        if table is not schema.NO_EFFECT:  # which is for all dialects together
            names = {re.split(r"[.\[]", name)[0] for name in table}
            assert names <= set(getattr(kind, "__struct_fields__", ())), kind


def test_what_is_another_dialects_is_refused_with_a_reason() -> None:
    assert {"n", "stop", "user"} <= foreign(MessagesFields)
    assert "it is called stop_sequences here" in reason(MessagesFields, "stop")
    assert "n" in refusals(MessagesFields)
    assert reason(ChatFields, "web_search_options") == ""
