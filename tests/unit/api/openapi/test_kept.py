"""What is kept asks for whose it is."""

from __future__ import annotations

from meshnode.api.openapi.document import statuses
from meshnode.api.openapi.endpoint import Access
from meshnode.api.openapi.kept import KEPT


def test_each_is_its_principals() -> None:
    assert {each.access for each in KEPT} == {Access.KEY}
    assert all(404 in statuses(each) for each in KEPT if "{" in each.path)


def test_one_body_alone_is_no_json() -> None:
    assert [each.path for each in KEPT if each.body_media != "application/json"] == ["/v1/files"]
