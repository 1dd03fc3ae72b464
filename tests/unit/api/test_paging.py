"""Lists in pages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.api.paging import Paging, listed, page, paging
from meshnode.errors import InvalidField


@given(st.integers(0, 12), st.integers(1, 5), st.sampled_from(["asc", "desc"]))
def test_pages_make_up_the_list(count: int, limit: int, order: Any) -> None:
    items = [{"id": f"i{number}"} for number in range(count)]
    seen: list[str] = []
    while True:
        part = page(items, Paging(seen[-1] if seen else None, limit, order))
        seen += [item["id"] for item in part["data"]]
        if not part["has_more"]:
            break
        assert len(part["data"]) == limit
        assert part["last_id"] == seen[-1]
    wanted = [item["id"] for item in items]
    assert seen == (wanted if order == "asc" else wanted[::-1])


def test_there_is_nothing_behind_what_is_not_there() -> None:
    with pytest.raises(InvalidField, match="after"):
        page([{"id": "a"}], Paging("b"))


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"order": "up"}])
def test_a_wrong_page_is_named(query: dict[str, str]) -> None:
    with pytest.raises(InvalidField) as caught:
        paging(query)
    assert caught.value.param == next(iter(query))


def test_a_page_as_it_is_asked_for() -> None:
    assert paging({}) == Paging(None, 20, "desc")
    assert paging({}, "asc").order == "asc"
    assert paging({"after": "a", "limit": "3", "order": "asc"}) == Paging("a", 3, "asc")


def test_a_list_that_names_something_twice_ends_all_the_same() -> None:
    items = [{"id": "a"}, {"id": "a"}, {"id": "b"}]
    first = page(items, Paging(None, 1, "asc"))
    assert page(items, Paging(first["last_id"], 1, "asc"))["data"] == [{"id": "b"}]


def test_an_empty_page_has_no_ends() -> None:
    assert listed([], more=False) == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@given(st.lists(st.text(min_size=1), max_size=3), st.booleans())
def test_a_list_names_its_ends(ids: list[str], more: bool) -> None:
    shown = listed([{"id": id_} for id_ in ids], more=more)
    assert (shown["first_id"], shown["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    assert shown["has_more"] is more
