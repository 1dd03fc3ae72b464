"""``thinking``, ``output_config`` and ``output_format`` ⇄ what a chat template and the engine know of them. Pure.

Source: Anthropic's API reference, "Create a Message". Whether to think is a switch of the model's template, how much is
its effort; a model whose template has neither thinks as it always does. A budget of tokens is told to templates that
read one, and stands for an effort where none is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from meshnode.api.constraint_schema import MAX_SOURCE
from meshnode.api.fields import integer, invalid
from meshnode.api.messages.blocks import Raw, read
from meshnode.domain import Constraint, ConstraintKind
from meshnode.errors import InvalidField

LEAST_BUDGET: Final = 1024
_EFFORTS: Final = {"xhigh": "high", "max": "high"}
"""Efforts that no template knows, as the highest that most do."""
_BUDGETS: Final = ((4096, "low"), (16384, "medium"))
"""Below how many tokens a budget is which effort; above, it is high."""


class ThinkingFields(msgspec.Struct, kw_only=True):
    """``thinking``; with ``between_tools`` it is off, and no model here writes the notes that it is about."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int, integer(LEAST_BUDGET, 2**31 - 1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFields(msgspec.Struct, kw_only=True):
    """``output_config``."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: dict[str, Any] | None = None
    task_budget: dict[str, Any] | None = None


class FormatFields(msgspec.Struct, kw_only=True):
    """``output_config.format`` and, as it was called once, ``output_format``."""

    type: Literal["json_schema"]
    schema: dict[str, Any] | bool
    name: str | None = None


class Steering(NamedTuple):
    """How much to think, and in which form to answer. ``omitted``: thoughts are had, but not told."""

    effort: str | None = None
    template: Mapping[str, Any] = {}
    omitted: bool = False
    constraint: Constraint | None = None


def steering(thinking: Raw | None, config: Raw | None, form: Raw | None) -> Steering:
    """What the three fields come to. Raises InvalidField or UnknownField.

    Without ``thinking`` there is none, so that who never asked for it finds the answer's text where it always is.
    """
    output = OutputFields() if config is None else read(config, OutputFields, "output_config")
    if output.format is not None and form is not None:
        what = "output_config.format and output_format both constrain the answer."
        raise InvalidField(what, hint="Send one of them.", param="output_format")
    path = "output_format" if output.format is None else "output_config.format"
    constraint = _constraint(form if output.format is None else output.format, path)
    effort = _EFFORTS.get(output.effort or "", output.effort)
    if thinking is None:
        return Steering(effort, {"enable_thinking": False}, constraint=constraint)
    fields = read(thinking, ThinkingFields, "thinking")
    if (fields.type == "enabled") != (fields.budget_tokens is not None):
        wanted = f"a whole number from {LEAST_BUDGET}" if fields.type == "enabled" else "left out"
        raise invalid("thinking.budget_tokens", fields.budget_tokens, f"{wanted} where the type is {fields.type}")
    template: dict[str, Any] = {"enable_thinking": fields.type in ("enabled", "adaptive")}
    if fields.budget_tokens is not None:
        template["thinking_budget"] = fields.budget_tokens
        effort = effort or _of_budget(fields.budget_tokens)
    return Steering(effort, template, fields.display == "omitted", constraint)


def _of_budget(tokens: int) -> str:
    return next((effort for most, effort in _BUDGETS if tokens < most), "high")


def _constraint(form: Raw | None, path: str) -> Constraint | None:
    if form is None:
        return None
    fields = read(form, FormatFields, path)
    source = json.dumps(fields.schema, ensure_ascii=False)
    if len(source) > MAX_SOURCE:
        raise invalid(f"{path}.schema", fields.schema, f"a schema of at most {MAX_SOURCE} characters")
    return Constraint(kind=ConstraintKind.JSON_SCHEMA, source=source, name=fields.name or "answer", strict=True)
