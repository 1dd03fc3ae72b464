"""The fields of a Responses request against those of the official SDK."""

from __future__ import annotations

import typing

from openai.types.responses import response_create_params, response_includable

from meshnode.api.responses.schema import COUNT_REFUSALS, INCLUDABLE, REFUSALS, ResponseFields


def test_every_documented_field_is_known() -> None:
    documented = set(response_create_params.ResponseCreateParamsBase.__annotations__) | {"stream"}
    assert documented <= {*ResponseFields.__struct_encode_fields__, *REFUSALS}


def test_every_documented_thing_to_include_is_known() -> None:
    assert set(typing.get_args(response_includable.ResponseIncludable)) == set(INCLUDABLE)


def test_what_is_refused_is_not_honoured_too() -> None:
    known = {"conversation", "moderation", "context_management", "access_programs", "image"}
    assert known.isdisjoint(ResponseFields.__struct_encode_fields__)
    assert REFUSALS.keys() < COUNT_REFUSALS.keys()
