"""The tables agree with ggml's own, and labels are read as publishers write them."""

from __future__ import annotations

import gguf
import pytest

from meshnode.models.quantisation import FILE_TYPES, TENSOR_TYPES, is_label, normal_label, refines, split_label


def test_tensor_types_are_those_of_ggml() -> None:
    for kind in gguf.GGMLQuantizationType:
        ours = TENSOR_TYPES[kind.value]
        assert (ours.name, ours.block, ours.size) == (kind.name.lower(), *gguf.GGML_QUANT_SIZES[kind])


def test_file_types_are_those_of_llama() -> None:
    for kind in gguf.LlamaFileType:
        if kind.name == "GUESSED":
            continue
        name = kind.name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
        assert FILE_TYPES[kind.value] == normal_label(name), kind


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("smollm2-135m-instruct-q4_1", ("smollm2-135m-instruct", "q4_1")),
        ("Qwen3-4B-Q4_K_M", ("Qwen3-4B", "q4_k_m")),
        ("Qwen3-4B-UD-Q4_K_XL", ("Qwen3-4B-UD", "q4_k_xl")),
        ("llama-2-7b.Q6_K", ("llama-2-7b", "q6_k")),
        ("gemma_3-BF16", ("gemma_3", "bf16")),
        ("model-fp16", ("model", "f16")),
        ("gpt-oss-20b-mxfp4", ("gpt-oss-20b", "mxfp4")),
        ("x-IQ2_XXS", ("x", "iq2_xxs")),
        ("llama-3.2-3b", ("llama-3.2-3b", None)),
        ("faq4_1", ("faq4_1", None)),
    ],
)
def test_a_file_stem_is_split_from_its_label(stem: str, expected: tuple[str, str | None]) -> None:
    assert split_label(stem) == expected


def test_every_file_type_is_a_label() -> None:
    for name in FILE_TYPES.values():
        assert is_label(name) or name in ("q1_0", "q2_0", "q2_k_s"), name


def test_a_contradicting_label_is_not_believed() -> None:
    assert refines("q4_k_xl", "q4_k_m")
    assert not refines("q8_0", "q4_k_m")
    assert not refines("f16", "q8_0")
