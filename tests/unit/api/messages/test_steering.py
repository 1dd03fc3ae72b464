"""How much to think, and in which form to answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshnode.api.messages.steering import steering
from meshnode.domain import ConstraintKind
from meshnode.errors import RequestError

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORM = {"type": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("thinking", "config", "effort", "template"),
    [
        (None, None, None, {"enable_thinking": False}),
        (None, {"effort": "low"}, "low", {"enable_thinking": False}),
        ({"type": "disabled"}, None, None, {"enable_thinking": False}),
        ({"type": "between_tools"}, None, None, {"enable_thinking": False}),
        ({"type": "adaptive"}, None, None, {"enable_thinking": True}),
        ({"type": "adaptive", "display": "summarized"}, {"effort": "xhigh"}, "high", {"enable_thinking": True}),
        ({"type": "adaptive"}, {"effort": "max", "task_budget": {"type": "tokens", "total": 9}}, "high",
         {"enable_thinking": True}),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low", {"enable_thinking": True, "thinking_budget": 1024}),
        ({"type": "enabled", "budget_tokens": 5000}, None, "medium",
         {"enable_thinking": True, "thinking_budget": 5000}),
        ({"type": "enabled", "budget_tokens": 32000}, {}, "high", {"enable_thinking": True, "thinking_budget": 32000}),
        ({"type": "enabled", "budget_tokens": 32000}, {"effort": "low"}, "low",
         {"enable_thinking": True, "thinking_budget": 32000}),
    ],
)  # fmt: skip
def test_how_much_to_think(
    thinking: dict[str, Any] | None, config: dict[str, Any] | None, effort: str | None, template: dict[str, Any]
) -> None:
    steered = steering(thinking, config, None)
    assert (steered.effort, steered.template) == (effort, template)
    assert not steered.omitted
    assert steered.constraint is None


def test_thoughts_may_be_had_and_not_told() -> None:
    assert steering({"type": "adaptive", "display": "omitted"}, None, None).omitted


@pytest.mark.parametrize(("config", "form"), [({"format": FORM}, None), (None, FORM), ({"effort": "low"}, FORM)])
def test_a_form_of_the_answer_by_either_name(config: dict[str, Any] | None, form: dict[str, Any] | None) -> None:
    constraint = steering(None, config, form).constraint
    assert constraint is not None
    assert (constraint.kind, json.loads(constraint.source), constraint.strict) == (
        ConstraintKind.JSON_SCHEMA, SCHEMA, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("thinking", "config", "form", "param"),
    [
        ({}, None, None, "thinking.type"),
        ({"type": "on"}, None, None, "thinking.type"),
        ({"type": "enabled"}, None, None, "thinking.budget_tokens"),
        ({"type": "enabled", "budget_tokens": 1023}, None, None, "thinking.budget_tokens"),
        ({"type": "adaptive", "budget_tokens": 2000}, None, None, "thinking.budget_tokens"),
        ({"type": "adaptive", "display": "all"}, None, None, "thinking.display"),
        ({"type": "adaptive", "much": 1}, None, None, "thinking.much"),
        (None, {"effort": "huge"}, None, "output_config.effort"),
        (None, {"length": 1}, None, "output_config.length"),
        (None, {"format": {"type": "text"}}, None, "output_config.format.type"),
        (None, {"format": {"type": "json_schema"}}, None, "output_config.format.schema"),
        (None, None, {"type": "json_schema", "schema": 3}, "output_format.schema"),
        (None, {"format": FORM}, FORM, "output_format"),
        (None, None, FORM | {"schema": {"description": "x" * (1 << 18)}}, "output_format.schema"),
    ],
)
def test_errors_name_the_field(
    thinking: dict[str, Any] | None, config: dict[str, Any] | None, form: dict[str, Any] | None, param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        steering(thinking, config, form)
    assert caught.value.param == param
