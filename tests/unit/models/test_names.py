"""Models are found by what people type, and their names are never more than names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import ModelNotFound
from meshnode.models.gguf import GgufMetadata
from meshnode.models.names import canonical_id, distinct_id, match, nearest, slug, split_name

SAFE_ID = re.compile(r"[a-z0-9][a-z0-9._-]*:[a-z0-9_]+")


def metadata(quantisation: str = "q4_k_m", **fields: str) -> GgufMetadata:
    """Metadata of a model of this quantisation."""
    return GgufMetadata(version=3, architecture="llama", quantisation=quantisation, **fields)  # type: ignore[arg-type]


def card(model: str, size: int = 1) -> ModelCard:
    """A card of this id."""
    return ModelCard(
        id=ModelId(model), path=f"/models/{model}", size=size, modified_ns=0, sha256="", architecture="llama",
        quantisation=model.rpartition(":")[2], context_length=1,
    )  # fmt: skip


CARDS = [
    card("smollm2-135m-instruct:q4_1", 98),
    card("qwen3-4b:q4_k_m", 2500),
    card("qwen3-4b:q8_0", 4300),
    card("llama3.2-3b:q4_k_m", 2000),
]


@pytest.mark.parametrize(
    ("name", "quantisation", "expected"),
    [
        ("smollm2-135m-instruct-q4_1.gguf", "q4_1", "smollm2-135m-instruct:q4_1"),
        ("Qwen3-4B-Q4_K_M.gguf", "q4_k_m", "qwen3-4b:q4_k_m"),
        ("Qwen3-4B-UD-Q4_K_XL.gguf", "q4_k_m", "qwen3-4b-ud:q4_k_xl"),
        ("liar-Q8_0.gguf", "q4_k_m", "liar:q4_k_m"),
        ("My Model (final).gguf", "f16", "my-model-final:f16"),
        ("plain", "q6_k", "plain:q6_k"),
        ("chosen:q4_k_m", "q4_k_m", "chosen:q4_k_m"),
        ("llama3.2:3b", "q4_k_m", "llama3.2-3b:q4_k_m"),
    ],
)
def test_a_file_gets_its_canonical_id(name: str, quantisation: str, expected: str) -> None:
    assert canonical_id(name, metadata(quantisation)) == expected


def test_a_vague_file_name_gives_way_to_the_metadata() -> None:
    described = metadata(basename="SmolLM2", size_label="135M", finetune="Instruct")
    assert canonical_id("ggml-model-q4_k_m.gguf", described) == "smollm2-135m-instruct:q4_k_m"
    assert canonical_id("model.gguf", metadata(name="Some Name")) == "some-name:q4_k_m"


@given(st.text(max_size=200), st.text(max_size=50))
def test_ids_are_safe_whatever_the_names(filename: str, name: str) -> None:
    assert SAFE_ID.fullmatch(canonical_id(filename, metadata(name=name)))


@given(st.text(max_size=200))
def test_slugs_never_leave_a_folder(text: str) -> None:
    made = slug(text)
    assert "/" not in made
    assert not made.startswith(".")
    assert len(made) <= 96


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("SmolLM2-135M-Instruct:Q4_1", "smollm2-135m-instruct:q4_1"),
        ("smollm2-135m-instruct", "smollm2-135m-instruct:q4_1"),
        ("qwen3-4b", "qwen3-4b:q8_0"),
        ("qwen3-4b:q4_k_m", "qwen3-4b:q4_k_m"),
        ("llama3.2:3b", "llama3.2-3b:q4_k_m"),
        ("llama3.2-3b:latest", "llama3.2-3b:q4_k_m"),
        ("gpt-4o", "qwen3-4b:q4_k_m"),
        ("GPT-4o-mini", "qwen3-4b:q4_k_m"),
    ],
)
def test_a_model_is_found_by_what_people_type(typed: str, expected: str) -> None:
    aliases = {"gpt-4o": "qwen3-4b:Q4_K_M", "gpt-4o-mini": "gpt-4o"}
    assert match(typed, CARDS, aliases).id == expected


def test_the_default_is_preferred_to_the_larger() -> None:
    assert match("qwen3-4b", CARDS, default=ModelId("qwen3-4b:q4_k_m")).id == "qwen3-4b:q4_k_m"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelNotFound) as caught:
        match("smolm2-135m", CARDS)
    assert "smollm2-135m-instruct" in caught.value.hint
    with pytest.raises(ModelNotFound, match="There are: "):
        match("entirely different", CARDS)
    with pytest.raises(ModelNotFound, match="meshnode pull default"):
        match("anything", [])


def test_a_quantisation_that_is_not_there_is_not_replaced() -> None:
    with pytest.raises(ModelNotFound):
        match("qwen3-4b:q2_k", CARDS)


def test_aliases_in_a_ring_end() -> None:
    with pytest.raises(ModelNotFound):
        match("a", CARDS, {"a": "b", "b": "a"})


@given(st.text(max_size=500))
def test_any_name_resolves_or_is_not_found(name: str) -> None:
    try:
        assert match(name, CARDS) in CARDS
    except ModelNotFound as error:
        assert len(str(error)) < 500  # noqa: PT017  both outcomes are right


def test_names_and_tags_are_told_apart() -> None:
    assert split_name("Foo:Q4_K_M") == ("foo", "q4_k_m")
    assert split_name("foo:8b") == ("foo-8b", None)
    assert split_name("foo:latest") == ("foo", None)


def test_other_weights_of_the_same_name_get_another_id() -> None:
    wanted = ModelId("foo:q4_0")
    assert distinct_id(wanted, "a" * 64, {}) == wanted
    assert distinct_id(wanted, "a" * 64, {wanted: "a" * 64}) == wanted
    assert distinct_id(wanted, "abcdef" + "0" * 58, {wanted: "b" * 64}) == "foo-abcdef:q4_0"


def test_the_nearest_come_first() -> None:
    assert nearest("qwen3", ["llama", "qwen2", "qwen3-4b"])[:2] == ["qwen2", "qwen3-4b"]
