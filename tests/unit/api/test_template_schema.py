"""``template`` and ``variables`` of a request."""

from __future__ import annotations

import pytest

from meshnode.api.schema import TemplateUse
from meshnode.api.template_schema import template_use
from meshnode.errors import InvalidField


def test_a_name_and_perhaps_a_version() -> None:
    assert template_use(None, None) is None
    assert template_use("greet", None) == TemplateUse("greet", None, {})
    assert template_use("greet.me-2@13", {"who": "Ann"}) == TemplateUse("greet.me-2", 13, {"who": "Ann"})


@pytest.mark.parametrize("name", ["", "@1", "a@", "a@0", "a@x", "a/b", ".a", "a" * 65, "a@1@2"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidField, match="template"):
        template_use(name, None)


def test_variables_need_a_template() -> None:
    with pytest.raises(InvalidField, match="variables"):
        template_use(None, {"who": "Ann"})
