"""What may be left out of a conversation: how it is asked for, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from meshnode.api.transforms import transform_headers, transforms
from meshnode.errors import InvalidField, MeshnodeError, UnknownField, UnsupportedParameter
from meshnode.events import Finished, Prefilling, Started, Usage

COMPRESSION = {"id": "context-compression"}


@pytest.mark.parametrize(
    ("named", "plugins", "found"),
    [
        (None, None, ()),
        ([], [], ()),
        (["middle-out"], None, ("middle-out",)),
        (None, [COMPRESSION], ("middle-out",)),
        (["middle-out"], [COMPRESSION | {"enabled": True, "engine": "middle-out"}], ("middle-out",)),
        (None, [COMPRESSION | {"enabled": False}], ()),
    ],
)
def test_both_ways_to_say_it(named: list[str] | None, plugins: list[dict[str, Any]] | None, found: object) -> None:
    assert transforms(named, plugins) == found


@pytest.mark.parametrize(
    ("plugin", "kind", "param"),
    [
        ({"id": "web"}, UnsupportedParameter, "plugins[0].id"),
        ({"id": 3}, InvalidField, "plugins[0].id"),
        ({}, InvalidField, "plugins[0].id"),
        (COMPRESSION | {"engine": "other"}, InvalidField, "plugins[0].engine"),
        (COMPRESSION | {"more": 1}, UnknownField, "plugins[0].more"),
    ],
)
def test_other_plugins_are_refused_by_name(plugin: dict[str, Any], kind: type[MeshnodeError], param: str) -> None:
    with pytest.raises(kind) as caught:
        transforms(None, [plugin])
    assert caught.value.param == param


def test_a_header_says_how_many_messages_were_left_out() -> None:
    events = [Prefilling(1, 2), None, Started(9, dropped=3), Finished(Usage())]
    assert transform_headers(events) == {"x-mesh-transform": "middle-out; dropped=3"}
    assert transform_headers([Started(9)]) == {}
    assert transform_headers([None]) == {}
