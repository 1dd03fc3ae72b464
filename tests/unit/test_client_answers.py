"""What a node tells of its mesh fits into the client's records, and nothing of it is left out."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.client_answers import Candidate, Receipt, Rejection, Rung
from meshnode.domain import Record
from meshnode.mesh import route
from meshnode.mesh.view import ReceiptView, RungView
from tests.kit.fakemesh import RECEIPT


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Receipt, ReceiptView), (Rung, RungView), (Candidate, route.Candidate), (Rejection, route.Rejection)],
)
def test_nothing_that_the_mesh_shows_is_left_out(ours: type[Record], theirs: type[Record]) -> None:
    assert ours.__struct_fields__ == theirs.__struct_fields__


def test_a_receipt_comes_through_json_unchanged() -> None:
    read = msgspec.json.decode(msgspec.json.encode(RECEIPT), type=Receipt)
    assert msgspec.to_builtins(read) == msgspec.to_builtins(RECEIPT)
