"""Whether two schemas exclude each other."""

from __future__ import annotations

import pytest

from meshnode.engine.constrain.disjoint import Schema, disjoint, type_of

TAGGED = [{"type": "object", "properties": {"kind": {"enum": [kind]}}, "required": ["kind"]} for kind in "ab"]


def apart(left: Schema, right: Schema, defs: dict[str, Schema] | None = None, budget: int = 100) -> bool:
    """Both ways round, which must say the same."""
    answers = {disjoint(one, other, defs or {}, iter(range(budget))) for one, other in ((left, right), (right, left))}
    (answer,) = answers
    return answer


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"type": "string"}, {"type": ["integer", "null"]}),
        ({"enum": ["a", "b"]}, {"enum": ["c"]}),
        ({"enum": ["a"]}, {"type": "integer"}),
        ({"enum": [True]}, {"enum": [1]}),
        (False, True),
        (TAGGED[0], TAGGED[1]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "array"}),
        ({"allOf": [{"minimum": 1}, {"type": "string"}]}, {"type": "array"}),
    ],
)
def test_what_excludes_each_other(left: Schema, right: Schema) -> None:
    assert apart(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"type": "integer"}, {"type": "number"}),
        ({"enum": [1]}, {"enum": [1.0]}),
        ({"enum": [[1, {"a": 2}]]}, {"enum": [[1.0, {"a": 2.0}]]}),
        ({}, {"type": "string"}),
        ({"minimum": 5}, {"type": "string"}),
        ({**TAGGED[0], "required": []}, {**TAGGED[1], "required": []}),
        ({"type": ["object", "null"], **{k: v for k, v in TAGGED[0].items() if k != "type"}},
         {"type": ["object", "null"], **{k: v for k, v in TAGGED[1].items() if k != "type"}}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "null"}),
    ],
)  # fmt: skip
def test_what_may_fit_both(left: Schema, right: Schema) -> None:
    assert not apart(left, right)


def test_references_are_followed_and_circles_give_up() -> None:
    defs: dict[str, Schema] = {"a": TAGGED[0], "b": TAGGED[1], "c": {"$ref": "c"}}
    assert apart({"$ref": "a"}, {"$ref": "b"}, defs)
    assert not apart({"$ref": "c"}, {"$ref": "c"}, defs)


def test_without_budget_nothing_is_sure() -> None:
    assert apart(TAGGED[0], TAGGED[1], budget=2)
    assert not apart(TAGGED[0], TAGGED[1], budget=1)


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "boolean"), (1, "number"), (1.5, "number"), ("", "string"), ([], "array"), ({}, "object")],
)
def test_types_have_json_schemas_names(value: object, name: str) -> None:
    assert type_of(value) == name
