"""Everything that is registered is described, and nothing else."""

from __future__ import annotations

import re

from meshnode.api.app import create_app
from meshnode.api.openapi.table import ENDPOINTS
from tests.kit.api import Scripted, a_context


def test_the_table_has_every_route_and_no_other() -> None:
    app = create_app(a_context(Scripted([]), []))
    registered = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("HEAD", "OPTIONS")
    }
    described = {(each.method, each.path) for each in ENDPOINTS}
    assert registered - described == set(), "registered, but not in the table"
    assert described - registered == set(), "in the table, but not registered"


def test_every_path_and_every_name_comes_once() -> None:
    assert len({(each.method, each.path) for each in ENDPOINTS}) == len(ENDPOINTS)
    assert len({each.name for each in ENDPOINTS}) == len(ENDPOINTS)
