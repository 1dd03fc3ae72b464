"""Lists in pages, as OpenAI's API has them: what a query asks for, and the part of a list that is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from meshnode.api.fields import invalid
from meshnode.errors import InvalidField

MOST: Final = 100
"""Objects of one page."""

Order = Literal["asc", "desc"]


class Paging(NamedTuple):
    """Which part of a list is asked for: so many behind the id ``after``."""

    after: str | None = None
    limit: int = 20
    order: Order = "desc"

    @property
    def newest_first(self) -> bool:
        """Whether it begins with the newest."""
        return self.order == "desc"


def paging(query: Mapping[str, str], usual: Order = "desc") -> Paging:
    """What a query asks for, in the ``usual`` order where it names none. Raises InvalidField."""
    limit, order = query.get("limit", "20"), query.get("order", usual)
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST):
        raise invalid("limit", limit, f"a whole number from 1 to {MOST}")
    if order not in ("asc", "desc"):
        raise invalid("order", order, "asc or desc")
    return Paging(query.get("after"), int(limit), "asc" if order == "asc" else "desc")


def page(items: Sequence[dict[str, Any]], asked: Paging) -> dict[str, Any]:
    """That part of a list, which is handed in oldest first. Raises InvalidField where nothing has the id ``after``."""
    ordered = items[::-1] if asked.newest_first else items
    begin = 0
    if asked.after is not None:
        places = [place for place, item in enumerate(ordered, start=1) if item["id"] == asked.after]
        if not places:
            raise InvalidField("after: nothing in the list has this id.", param="after")
        begin = places[-1]  # behind the last of them: ids that a client made may come twice
    end = begin + asked.limit
    return listed(list(ordered[begin:end]), more=end < len(ordered))


def listed(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page as OpenAI's clients read it."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}
