"""``template`` and ``variables`` of a request ⇄ the use of a stored prompt template. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from meshnode.api.fields import invalid, text
from meshnode.api.schema import TemplateUse

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAMES: Final = "1 to 64 letters, digits, dots, underscores or hyphens, the first a letter or digit"

Variables = Annotated[
    dict[str, Annotated[str, text(1 << 20)]],
    msgspec.Meta(max_length=256, description="an object of at most 256 texts, by the names of the template's places"),
]


def template_use(template: str | None, variables: Mapping[str, str] | None) -> TemplateUse | None:
    """What ``template`` (``name`` or ``name@version``) and ``variables`` of a request ask for. Raises InvalidField."""
    if template is None:
        if variables:
            raise invalid("variables", variables, "left out, unless there is a template")
        return None
    name, at, version = template.partition("@")
    if not NAME.fullmatch(name) or (at and not re.fullmatch(r"[1-9][0-9]{0,8}", version)):
        raise invalid("template", template, f"the name of a template ({NAMES}), perhaps @ and a version behind it")
    return TemplateUse(name, int(version) if at else None, variables or {})
