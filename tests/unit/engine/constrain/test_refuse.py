"""How a constraint is refused."""

from __future__ import annotations

from meshnode.engine.constrain.refuse import not_held, too_complex, wrong
from meshnode.errors import InvalidField, UnsupportedParameter


def test_each_says_where_and_what_and_what_to_do() -> None:
    assert str(wrong("type at #", "must be a name", "Name one.")) == "type at #: must be a name. Name one."
    assert "check the answer" in str(not_held("not at #", "nothing is excluded"))
    assert "smaller or simpler" in str(too_complex("enum at #", "9 values; 5 are the most"))


def test_what_is_right_but_not_held_is_told_from_what_is_wrong() -> None:
    assert isinstance(not_held("a", "b"), UnsupportedParameter)
    assert isinstance(wrong("a", "b"), InvalidField)
    assert isinstance(too_complex("a", "b"), InvalidField)
