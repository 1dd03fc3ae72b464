"""ggml's tensor types and GGUF's file types, as tables; and the labels people put into file names. Pure.

Source: ``ggml_type`` and the block structures in llama.cpp's ``ggml.h`` and ``ggml-common.h``, ``llama_ftype`` in
``llama.h``. A type that is not in the table is refused: its size is unknown, so its offset cannot be checked.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class TensorType(NamedTuple):
    """``block`` elements of a row are stored together in ``size`` bytes."""

    name: str
    block: int
    size: int


TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("f32", 1, 4),
    1: TensorType("f16", 1, 2),
    2: TensorType("q4_0", 32, 18),
    3: TensorType("q4_1", 32, 20),
    6: TensorType("q5_0", 32, 22),
    7: TensorType("q5_1", 32, 24),
    8: TensorType("q8_0", 32, 34),
    9: TensorType("q8_1", 32, 40),
    10: TensorType("q2_k", 256, 84),
    11: TensorType("q3_k", 256, 110),
    12: TensorType("q4_k", 256, 144),
    13: TensorType("q5_k", 256, 176),
    14: TensorType("q6_k", 256, 210),
    15: TensorType("q8_k", 256, 292),
    16: TensorType("iq2_xxs", 256, 66),
    17: TensorType("iq2_xs", 256, 74),
    18: TensorType("iq3_xxs", 256, 98),
    19: TensorType("iq1_s", 256, 50),
    20: TensorType("iq4_nl", 32, 18),
    21: TensorType("iq3_s", 256, 110),
    22: TensorType("iq2_s", 256, 82),
    23: TensorType("iq4_xs", 256, 136),
    24: TensorType("i8", 1, 1),
    25: TensorType("i16", 1, 2),
    26: TensorType("i32", 1, 4),
    27: TensorType("i64", 1, 8),
    28: TensorType("f64", 1, 8),
    29: TensorType("iq1_m", 256, 56),
    30: TensorType("bf16", 1, 2),
    34: TensorType("tq1_0", 256, 54),
    35: TensorType("tq2_0", 256, 66),
    39: TensorType("mxfp4", 32, 17),
    40: TensorType("nvfp4", 64, 36),
    41: TensorType("q1_0", 128, 18),
    42: TensorType("q2_0", 64, 18),
}
"""By the number in a GGUF's tensor info."""

FILE_TYPES: dict[int, str] = {
    0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s",
    12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 19: "iq2_xxs",
    20: "iq2_xs", 21: "q2_k_s", 22: "iq3_xs", 23: "iq3_xxs", 24: "iq1_s", 25: "iq4_nl", 26: "iq3_s", 27: "iq3_m",
    28: "iq2_s", 29: "iq2_m", 30: "iq4_xs", 31: "iq1_m", 32: "bf16", 36: "tq1_0", 37: "tq2_0", 38: "mxfp4",
    39: "nvfp4", 40: "q1_0", 41: "q2_0",
}  # fmt: skip
"""By the number under ``general.file_type``."""

_LABEL = (
    r"iq[1-4]_(?:xxs|xs|s|m|nl)|q[1-8]_k_(?:xxl|xl|xs|s|m|l)|q[1-8]_k|q[1-8]_[01]|tq[12]_0"
    r"|mxfp4(?:_moe)?|nvfp4|bf16|fp?16|fp?32"
)
_TRAILING = re.compile(rf"^(?P<base>.*?)[-_.](?P<label>{_LABEL})$", re.IGNORECASE)
_WHOLE = re.compile(rf"^(?:{_LABEL})$", re.IGNORECASE)
_SYNONYMS = {"fp16": "f16", "fp32": "f32", "mxfp4_moe": "mxfp4"}
_BITS = re.compile(r"\d+")


def normal_label(text: str) -> str:
    """Lower case, with the spellings that mean the same made one (``FP16`` is ``f16``)."""
    lowered = text.lower()
    return _SYNONYMS.get(lowered, lowered)


def is_label(text: str) -> bool:
    """Whether ``text`` is a quantisation label, whatever its case."""
    return _WHOLE.match(text) is not None


def split_label(stem: str) -> tuple[str, str | None]:
    """``("Qwen3-4B", "q4_k_m")`` of ``Qwen3-4B-Q4_K_M``; the label is ``None`` where the stem ends in none."""
    found = _TRAILING.match(stem)
    if found is None:
        return stem, None
    return found["base"], normal_label(found["label"])


def refines(label: str, measured: str) -> bool:
    """Whether a file name's ``label`` may stand for the ``measured`` one: the same, or as many bits a weight.

    Publishers have labels of their own (``q4_k_xl``) that GGUF's file type cannot say; a name that
    contradicts the file is not believed.
    """
    if label == measured:
        return True
    ours, theirs = _BITS.search(label), _BITS.search(measured)
    return ours is not None and theirs is not None and ours[0] == theirs[0]
