"""Answers of SmolLM2 under schemas, as jsonschema sees them."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from meshnode.domain import Constraint, ConstraintKind, FinishReason, GenerationRequest, Sampling, Stopping
from meshnode.engine.backend import Backend
from meshnode.engine.llama.loading import open_llama
from tests.kit.driven import Driven, chatting
from tests.kit.llamas import cpu_load
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.model, pytest.mark.slow]

NODE: dict[str, Any] = {
    "type": "object",
    "properties": {"v": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["v", "n"],
}
SCHEMAS: list[Any] = [
    {"type": "boolean"},
    {"enum": ["red", "éa", "èb", 5, None]},
    {"type": "integer", "minimum": -5, "exclusiveMaximum": 120},
    {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 10},
    {"type": "string", "minLength": 3, "maxLength": 12},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "uuid"},
    {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "null"}], "minItems": 2, "maxItems": 2},
    {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "object", "maxProperties": 0}]},
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {
        "oneOf": [
            {"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"], "maxProperties": 1}
            for kind in ("cat", "dog")
        ]
    },
    {**NODE, "properties": {**NODE["properties"], "n": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Backend:
    """SmolLM2."""
    return open_llama(cpu_load(smollm2_path()))


def asked(constraint: Constraint, seed: int) -> GenerationRequest:
    """A conversation whose answers have a form."""
    request = chatting("Describe the weather and a person.", stopping=Stopping(max_tokens=150))
    sampling = Sampling(temperature=1.2, seed=seed)
    return msgspec.structs.replace(request, constraint=constraint, sampling=sampling)


def finished(backend: Backend, constraint: Constraint, seed: int) -> list[str]:
    """The answers that were not cut."""
    driven = Driven(backend)
    numbers = [driven.submit(asked(constraint, each)) for each in (seed, seed + 100)]
    driven.run()
    return [driven.text(number) for number in numbers if driven.reason(number) is not FinishReason.LENGTH]


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_every_finished_answer_fits_its_schema(backend: Backend, number: int) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = SCHEMAS[number]
    constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, source=json.dumps(schema))
    answers = finished(backend, constraint, number)
    assert answers
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for answer in answers:
        checker.validate(json.loads(answer))


@pytest.mark.parametrize(
    ("kind", "source", "fits"),
    [
        (ConstraintKind.CHOICE, '["éa", "èb"]', "éa|èb"),
        (ConstraintKind.REGEX, "[a-z]{3}-\\d{2}", "[a-z]{3}-[0-9]{2}"),
        (ConstraintKind.GRAMMAR, 'root ::= ("ja" | "nein") "!"{1,3}', "(ja|nein)!{1,3}"),
    ],
)
def test_other_forms_hold_too(backend: Backend, kind: ConstraintKind, source: str, fits: str) -> None:
    answers = finished(backend, Constraint(kind=kind, source=source), 1)
    assert len(answers) == 2
    assert all(re.fullmatch(fits, answer) for answer in answers)
