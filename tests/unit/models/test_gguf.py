"""What a file says about its model is understood, and nonsense in it is refused by name."""

from __future__ import annotations

import hashlib
import io

import pytest

from meshnode.errors import ModelFileRefused
from meshnode.models.gguf import GgufMetadata, check_servable, read_metadata
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinybert import CONTEXT, tiny_bert
from tests.kit.tinygguf import ARRAY, CHATML, F32, I32, STRING, U32, Gguf, Value, tiny_gguf


def read(made: Gguf) -> GgufMetadata:
    """The metadata of a file made in memory."""
    data = made.encode()
    return read_metadata(io.BytesIO(data), len(data))


def changed(**pairs: Value) -> Gguf:
    """A tiny model with some metadata replaced; ``__`` in a name stands for a dot."""
    made = tiny_gguf()
    made.metadata |= {key.replace("__", "."): value for key, value in pairs.items()}
    return made


def test_a_tiny_model_is_described() -> None:
    metadata = read(tiny_gguf())
    check_servable(metadata)
    assert metadata.architecture == "llama"
    assert metadata.quantisation == "f32"
    assert (metadata.context_length, metadata.layers, metadata.heads, metadata.kv_heads) == (2048, 2, 4, 2)
    assert (metadata.embedding_length, metadata.vocab_size) == (64, 280)
    assert metadata.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2
    assert metadata.chat_template == CHATML
    assert metadata.template_sha256 == hashlib.sha256(CHATML.encode()).hexdigest()


def test_the_real_model_is_described() -> None:
    path = smollm2_path()
    with path.open("rb") as file:
        metadata = read_metadata(file, path.stat().st_size)
    check_servable(metadata)
    assert (metadata.quantisation, metadata.license, metadata.tokenizer) == ("q4_1", "apache-2.0", "gpt2")
    assert (metadata.layers, metadata.heads, metadata.kv_heads, metadata.context_length) == (30, 9, 3, 8192)
    assert metadata.kv_bytes_per_token == 30 * 3 * (64 + 64) * 2
    assert metadata.parameters == 134_515_008
    assert metadata.vocab_size == 49152


def test_heads_may_differ_by_layer() -> None:
    made = changed(llama__attention__head_count_kv=Value(ARRAY, [2, 0], I32))
    metadata = read(made)
    assert metadata.kv_heads == 2
    assert metadata.kv_bytes_per_token == 2 * (16 + 16) * 2


def test_head_sizes_of_their_own_count() -> None:
    made = changed(llama__attention__key_length=Value(U32, 128), llama__attention__value_length=Value(U32, 64))
    assert read(made).kv_bytes_per_token == 2 * 2 * (128 + 64) * 2


def test_without_a_file_type_the_tensors_tell() -> None:
    made = tiny_gguf()
    del made.metadata["general.file_type"]
    assert read(made).quantisation == "f32"


def test_a_guessed_file_type_counts() -> None:
    assert read(changed(general__file_type=Value(U32, 1024 + 15))).quantisation == "q4_k_m"


def test_names_lose_control_characters_and_length() -> None:
    metadata = read(changed(general__name=Value(STRING, "\x1b[31mred\n" + "x" * 500)))
    assert metadata.name.startswith("[31mred")
    assert len(metadata.name) == 200


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (changed(general__architecture=Value(STRING, "../../etc")), "general.architecture is '../../etc'"),
        (changed(general__architecture=Value(U32, 1)), "general.architecture is ''"),
        (changed(llama__context_length=Value(STRING, "many")), "context_length is not a whole number"),
        (changed(llama__context_length=Value(F32, 2048.0)), "context_length is not a whole number"),
        (changed(llama__block_count=Value(U32, 4_000_000_000)), "block_count is 4000000000"),
        (changed(llama__attention__head_count=Value(ARRAY, [4], I32)), "1 numbers for 2 layers"),
        (changed(llama__attention__head_count=Value(ARRAY, [4, -1], I32)), "is -1"),
        (changed(tokenizer__ggml__tokens=Value(STRING, "a b c")), "tokens is not an array"),
    ],
)
def test_nonsense_is_refused_by_name(made: Gguf, reason: str) -> None:
    with pytest.raises(ModelFileRefused, match=reason):
        read(made)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (changed(split__no=Value(U32, 0), split__count=Value(U32, 3)), "shard 1 of 3"),
        (changed(general__type=Value(STRING, "adapter")), "kind 'adapter'"),
        (changed(general__architecture=Value(STRING, "clip")), "vision projector"),
        (changed(llama__block_count=Value(U32, 0)), "0 layers"),
        (Gguf(tiny_gguf().metadata, {}), "0 tensors"),
    ],
)
def test_what_is_no_model_is_refused_by_name(made: Gguf, reason: str) -> None:
    with pytest.raises(ModelFileRefused, match=reason):
        check_servable(read(made))


def test_what_may_be_asked_of_a_model_is_read_from_its_kind_and_pooling() -> None:
    assert read(tiny_gguf()).kinds == ("generate", "embed")
    assert read(changed(llama__pooling_type=Value(U32, 0))).kinds == ("generate", "embed")
    assert read(changed(llama__pooling_type=Value(U32, 3))).kinds == ("embed",)
    for pooling in (None, 1, 2):
        encoder = read(tiny_bert(pooling=pooling))
        check_servable(encoder)
        assert (encoder.kinds, encoder.architecture, encoder.context_length) == (("embed",), "bert", CONTEXT)


def test_a_model_that_ranks_is_served_where_it_has_what_gives_a_score() -> None:
    ranks = read(tiny_bert(pooling=4))
    check_servable(ranks)
    assert ranks.kinds == ("rerank",)
    with pytest.raises(ModelFileRefused, match="no tensor that gives a score"):
        check_servable(read(tiny_bert(pooling=4, head=False)))
    with pytest.raises(ModelFileRefused, match="pooling_type is 9"):
        read(tiny_bert(pooling=9))


def test_a_recurrent_models_state_is_counted_for_each_conversation() -> None:
    made = tiny_gguf(layers=2)
    state = {"conv_kernel": 4, "inner_size": 128, "state_size": 16, "group_count": 1}
    made.metadata |= {f"llama.ssm.{key}": Value(U32, value) for key, value in state.items()}
    data = made.encode()
    metadata = read_metadata(io.BytesIO(data), len(data))
    assert metadata.state_bytes == 2 * 4 * (3 * (128 + 2 * 16) + 16 * 128)
    plain = tiny_gguf(layers=2).encode()
    assert read_metadata(io.BytesIO(plain), len(plain)).state_bytes == 0


def test_a_row_is_as_wide_as_its_feed_forward_or_the_experts_in_use() -> None:
    dense = tiny_gguf(embd=64, ffn=128)
    mixture = tiny_gguf(embd=64, ffn=128)
    mixture.metadata |= {"llama.expert_count": Value(U32, 8), "llama.expert_used_count": Value(U32, 2)}
    widths = []
    for made in (dense, mixture):
        data = made.encode()
        widths.append(read_metadata(io.BytesIO(data), len(data)).row_floats)
    assert widths == [3 * 128 + 4 * 64, 2 * (3 * 128 + 64) + 4 * 64]
