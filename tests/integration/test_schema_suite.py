"""JSON Schema's own test suite: what a schema rejects cannot be written; what it takes and cannot be is listed."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from meshnode.errors import RequestError
from tests.kit.constrained import by_schema, fits
from tests.kit.schema_suite import Group, suite

STRICTER = {
    "allOf": 2,  # properties are written in the order of the schema
    "const": 5,  # numbers and properties as they stand in the schema: 1 is not written as 1.0
    "enum": 4,
    "format": 17,  # formats hold; the specification lets them be annotations
    "optional/ecmascript-regex": 6,  # control characters are not written
    "optional/float-overflow": 1,  # numbers have no exponent where steps are counted
    "optional/format/date-time": 3,  # no leap seconds, capital T and Z
    "optional/format/email": 5,  # no quoted names, no literal addresses
    "optional/format/hostname": 2,  # labels of up to 62 letters, no punycode
    "optional/format/idn-email": 1,  # ASCII
    "optional/format/idn-hostname": 19,
    "optional/format/ipv6": 4,  # no dotted form
    "optional/format/iri": 5,
    "optional/format/iri-reference": 5,
    "optional/format/time": 7,
    "optional/format/uri": 3,  # no user, no literal addresses
    "optional/format/uri-reference": 2,  # from the root, or a whole URI
    "type": 1,  # a whole number is not written as 1.0
    "vocabulary": 1,  # meta-schemas of one's own are not fetched
}
"""File -> how many valid values cannot be written, and why. Each is still an answer that could have been another."""


def verdicts(group: Group) -> Counter[str]:
    """How the tests of a group come out."""
    try:
        matcher = by_schema(group.schema)
    except RequestError:
        return Counter(refused=len(group.tests))
    found: Counter[str] = Counter()
    for test in group.tests:
        written = fits(matcher, json.dumps(test["data"], ensure_ascii=False))
        found["held" if written == test["valid"] else "looser" if written else "stricter"] += 1
    return found


@pytest.fixture(scope="module")
def table() -> dict[str, Counter[str]]:
    """Verdicts by file of the suite."""
    found: dict[str, Counter[str]] = {}
    for group in suite():
        found.setdefault(group.keyword, Counter()).update(verdicts(group))
    return found


def test_nothing_that_a_schema_rejects_can_be_written(table: dict[str, Counter[str]]) -> None:
    assert {keyword: count["looser"] for keyword, count in table.items() if count["looser"]} == {}


def test_valid_values_that_cannot_be_written_are_known(table: dict[str, Counter[str]]) -> None:
    stricter = {keyword: count["stricter"] for keyword, count in table.items() if count["stricter"]}
    assert {keyword: count for keyword, count in stricter.items() if count > STRICTER.get(keyword, 0)} == {}


def test_most_of_the_suite_is_held(table: dict[str, Counter[str]]) -> None:
    total = sum(table.values(), Counter[str]())
    assert total["held"] > 1_150
    assert total["refused"] < 700
