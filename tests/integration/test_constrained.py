"""SmolLM2 under constraints: whatever it writes and ends is valid, by the judgement of others."""

from __future__ import annotations

import datetime
import enum
import ipaddress
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any, Literal

import pydantic
import pytest

from meshnode.domain import Constraint, ConstraintKind, Sampling
from meshnode.engine.backend import Backend, Row
from meshnode.engine.constrain.matcher import Constrainer, Matcher, Vocabulary
from meshnode.engine.llama import open_llama
from meshnode.engine.pipe import Load
from meshnode.engine.sampling import Sampler
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.model, pytest.mark.slow]
jsonschema = pytest.importorskip("jsonschema")

# --- models as programs write them ------------------------------------------------------------


class Colour(enum.StrEnum):
    """An enumeration."""

    RED = "red"
    BLUE = "blue"


class Closed(pydantic.BaseModel):
    """No properties but those named, as OpenAI's strict mode wants it: small models like to add some."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Cat(Closed):
    """One of a tagged union."""

    kind: Literal["cat"]
    lives: Annotated[int, pydantic.Field(ge=1, le=9)]


class Dog(Closed):
    """The other."""

    kind: Literal["dog"]
    good: bool = True


class Tree(Closed):
    """Recursive."""

    name: Annotated[str, pydantic.Field(max_length=8)]
    children: Annotated[list[Tree], pydantic.Field(max_length=2)] = []


class Person(Closed):
    """With optional and nullable fields."""

    name: Annotated[str, pydantic.Field(min_length=1, max_length=20)]
    nick: str | None = pydantic.Field(default=None, max_length=10)
    colour: Colour
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Facts(Closed):
    """Formats and bounds."""

    when: datetime.datetime
    day: datetime.date
    clock: datetime.time
    took: datetime.timedelta
    key: uuid.UUID
    address: ipaddress.IPv4Address
    code: Annotated[str, pydantic.Field(pattern=r"^[A-Z]{2}-\d{3}$")]
    share: Annotated[float, pydantic.Field(gt=0, lt=1, multiple_of=0.125)]
    even: Annotated[int, pydantic.Field(multiple_of=2, ge=0, lt=100)]
    point: tuple[int, bool]
    counts: Annotated[dict[Colour, int], pydantic.Field(max_length=2)]


MODELS: list[type[pydantic.BaseModel]] = [Cat, Tree, Person, Facts]

TEXT: dict[str, Any] = {"type": "string", "maxLength": 12}
SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": False},
    {"type": "object", "properties": {"a": TEXT, "b": {"type": "integer"}}, "additionalProperties": False},
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "null"}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"type": "array", "items": {"enum": ["a", "b", 1, None]}, "maxItems": 3},
    {"enum": ["yes", "no", "not sure"]},
    {"const": {"a": [1, 2.5, "é"]}},
    {"type": ["integer", "null"], "minimum": 100},
    {"type": "number", "exclusiveMinimum": 0.25, "maximum": 0.5},
    {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 20},
    {"type": "integer", "multipleOf": 7, "minimum": 70, "maximum": 700},
    {"type": "string", "pattern": r"^\(\d{3}\) \d{3}-\d{4}$"},
    {"type": "string", "pattern": "^(foo|bar)+$", "maxLength": 12},
    {"type": "string", "minLength": 3, "maxLength": 5},
    *({"type": "string", "format": name} for name in ("date-time", "date", "time", "duration", "email", "hostname")),
    *({"type": "string", "format": name} for name in ("ipv4", "ipv6", "uuid")),
    {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "null"}, "maxItems": 2}]},
    {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer", "minimum": 0, "maximum": 9}]},
    {"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"a": {"maximum": 3}}, "required": ["a"]}],
     "type": "object", "maxProperties": 1},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}},
     "additionalProperties": False}}},
    {"type": "object", "patternProperties": {"^[a-c]$": {"type": "boolean"}}, "additionalProperties": False,
     "maxProperties": 2},
    {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9, "minimum": 0}, "maxProperties": 2},
    {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "array", "items": TEXT,
     "maxItems": 2}}, "required": ["b"]}}, "required": ["a"], "maxProperties": 1},
    {"type": "string", "maxLength": 4, "nullable": True},
    {"type": "object", "propertyNames": {"enum": ["x", "y"]}, "additionalProperties": {"type": "null"}},
    True,
]  # fmt: skip


# --- a small loop -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Iterator[Backend]:
    """SmolLM2 with room for one conversation."""
    load = Load(path=str(smollm2_path()), n_ctx=1024, n_seq_max=1, n_batch=256, n_ubatch=64, threads=1, gpu_layers=0)
    with closing(open_llama(load)) as backend:
        yield backend


@pytest.fixture(scope="module")
def constrainer(model: Backend) -> Constrainer:
    """What holds its answers."""
    tokens = range(model.info.n_vocab)
    ends = frozenset(token for token in tokens if model.ends_generation(token))
    return Constrainer(
        Vocabulary(
            n_vocab=model.info.n_vocab,
            piece=lambda token, special: model.piece(token, special=special),
            ends=ends,
            eos=min(ends),
            is_control=lambda token: not model.piece(token) and bool(model.piece(token, special=True)),
        )
    )


def answer(model: Backend, matcher: Matcher, *, seed: int, degrees: float, most: int = 100) -> str | None:
    """What the model writes under a constraint; None where it was cut."""
    model.remove(0)
    ask = "<|im_start|>user\nAnswer in JSON.<|im_end|>\n<|im_start|>assistant\n"
    batch = model.tokenize(ask, add_special=False, parse_special=True)
    sampler = Sampler(Sampling(temperature=degrees, top_k=0), seed=seed, choice=0)
    said, done = b"", 0
    for position in range(most):
        model.decode([Row(0, token, done + index, index == len(batch) - 1) for index, token in enumerate(batch)])
        done += len(batch)
        logits = model.logits(len(batch) - 1).copy()
        logits[~matcher.mask()] = float("-inf")
        token = sampler.draw(logits, position)
        matcher.accept(token)
        sampler.accept(token)
        said += model.piece(token)
        if matcher.ended:
            return said.decode()
        batch = [token]
    return None


def held(constrainer: Constrainer, kind: ConstraintKind, source: Any) -> Matcher:
    """The matcher of a constraint."""
    return constrainer.compile(Constraint(kind=kind, source=source if isinstance(source, str) else json.dumps(source)))


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_an_answer_that_ends_fits_its_schema(model: Backend, constrainer: Constrainer, number: int) -> None:
    given, ended = SCHEMAS[number], 0
    for seed, degrees in enumerate((0.0, 1.2)):
        matcher = held(constrainer, ConstraintKind.JSON_SCHEMA, given)
        said = answer(model, matcher, seed=seed, degrees=degrees)
        if said is not None:
            ended += 1
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            plain = {"anyOf": [given, {"type": "null"}]} if isinstance(given, dict) and "nullable" in given else given
            jsonschema.validate(json.loads(said), plain, format_checker=checker)
    assert ended or given is True


@pytest.mark.parametrize("number", range(len(MODELS)))
def test_pydantic_reads_what_was_held_to_its_schema(model: Backend, constrainer: Constrainer, number: int) -> None:
    shape, ended = MODELS[number], 0
    for seed, degrees in enumerate((0.0, 0.7)):
        matcher = held(constrainer, ConstraintKind.JSON_SCHEMA, shape.model_json_schema())
        said = answer(model, matcher, seed=seed, degrees=degrees, most=300)
        if said is not None:
            shape.model_validate_json(said)
            ended += 1
    assert ended


def test_choices_expressions_and_grammars_hold(model: Backend, constrainer: Constrainer) -> None:
    for seed in range(2):
        chosen = answer(model, held(constrainer, ConstraintKind.CHOICE, ["red", "green"]), seed=seed, degrees=1.5)
        assert chosen in ("red", "green")
        told = answer(model, held(constrainer, ConstraintKind.REGEX, r"\d{1,3} (apples|pears)"), seed=seed, degrees=1.5)
        assert told is not None
        assert re.fullmatch(r"\d{1,3} (apples|pears)", told)
        grammar = 'root ::= move (" " move){2}\nmove ::= [a-h] [1-8] | "O-O" | "O-O-O"'
        moves = answer(model, held(constrainer, ConstraintKind.GRAMMAR, grammar), seed=seed, degrees=1.5)
        assert moves is not None
        assert re.fullmatch(r"(?:[a-h][1-8]|O-O|O-O-O)(?: (?:[a-h][1-8]|O-O|O-O-O)){2}", moves)
