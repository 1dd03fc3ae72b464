"""Bodies that are described by structs of their own have all that the parsers take beside."""

from __future__ import annotations

import pytest

from meshnode.api.batches.multipart import Piece
from meshnode.api.batches.schema import Form
from meshnode.api.chat_schema import ChatFields
from meshnode.api.openapi.bodies import ChatToTokens, Comparison, CountedResponse, Upload
from meshnode.api.responses.schema import ResponseFields
from meshnode.errors import UnknownField


def test_they_go_on_from_what_they_are_made_of() -> None:
    assert set(ChatToTokens.__struct_fields__) - set(ChatFields.__struct_fields__) == {"with_pieces", "add_special"}
    assert set(Comparison.__struct_fields__) == set(ChatFields.__struct_fields__)
    assert CountedResponse.__struct_fields__ == ResponseFields.__struct_fields__


def test_an_upload_has_the_fields_of_its_form() -> None:
    form = Form()
    for name in Upload.__struct_encode_fields__:
        form.take(Piece(name, "a.jsonl" if name == "file" else None, b"x", last=True))
    with pytest.raises(UnknownField):
        form.take(Piece("nonsense", None, b"x", last=True))
