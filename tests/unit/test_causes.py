"""What stands in an exception or a group of them."""

from __future__ import annotations

from meshnode.causes import leaves, ours
from meshnode.errors import Draining, ModelNotFound

ONE, OTHER, FOREIGN = Draining("one"), ModelNotFound("other"), ValueError("foreign")


def test_an_exception_is_its_own_leaf() -> None:
    assert list(leaves(FOREIGN)) == [FOREIGN]


def test_groups_are_taken_apart_however_deep() -> None:
    group = ExceptionGroup("a", [FOREIGN, ExceptionGroup("b", [ONE, ExceptionGroup("c", [OTHER])])])
    assert list(leaves(group)) == [FOREIGN, ONE, OTHER]


def test_the_first_of_ours_is_found() -> None:
    assert ours(ONE) is ONE
    assert ours(ExceptionGroup("a", [FOREIGN, OTHER, ONE])) is OTHER
    assert ours(BaseExceptionGroup("a", [KeyboardInterrupt(), ONE])) is ONE


def test_there_may_be_none() -> None:
    assert ours(FOREIGN) is None
    assert ours(ExceptionGroup("a", [FOREIGN])) is None
