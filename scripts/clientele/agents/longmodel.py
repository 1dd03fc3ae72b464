"""A model of 32,768 tokens of context for prompts of coding agents: a real tokenizer, two small layers, random weights.

SmolLM2 lends its tokenizer and holds 8,192 tokens itself. What such a model says is noise; a grammar makes it a call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np

CONTEXT: Final = 32768
EMBEDDING, FEED_FORWARD, LAYERS, HEADS, KV_HEADS = 64, 128, 2, 4, 2
TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') }}"
    "{% if message['tool_calls'] %}{% for call in message['tool_calls'] %}"
    "{{ '<tool_call>\\n' + ({'name': call['function']['name'], 'arguments': call['function']['arguments']} | tojson)"
    " + '\\n</tool_call>' }}{% endfor %}{% endif %}{{ '<|im_end|>\\n' }}"
    "{% if loop.first and tools %}{{ '<|im_start|>system\\nFor each function call return a json object with function"
    " name and arguments within <tool_call></tool_call> XML tags.\\n<tools>' }}"
    "{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}{{ '\\n</tools><|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write(donor: Path, path: Path) -> Path:
    """Write the model to ``path``, with the tokenizer of the model at ``donor``; gives ``path`` back."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("long-context-noise")
    writer.add_type("model")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    words = _lend_tokenizer(gguf.GGUFReader(donor), writer)
    for name, tensor in _weights(words).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _lend_tokenizer(donor: gguf.GGUFReader, writer: gguf.GGUFWriter) -> int:
    """Copy what the donor says of its tokens, but for the template; returns how many there are."""
    size = 0
    for key, field in donor.fields.items():
        if not key.startswith("tokenizer.") or key == "tokenizer.chat_template":
            continue
        value: Any = field.contents()
        kind = field.types[0]
        if kind is gguf.GGUFValueType.ARRAY:
            writer.add_key_value(key, value, kind, field.types[-1])
            size = len(value) if key == "tokenizer.ggml.tokens" else size
        else:
            writer.add_key_value(key, value, kind)
    writer.add_chat_template(TEMPLATE)
    writer.add_vocab_size(size)
    return size


def _weights(words: int) -> dict[str, Any]:
    """Random weights of the usual spread; norms are one."""
    source = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> Any:
        return (source.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float16)

    kv = EMBEDDING // HEADS * KV_HEADS
    ones = np.ones(EMBEDDING, dtype=np.float32)
    found = {"token_embd.weight": matrix(words, EMBEDDING), "output_norm.weight": ones}
    for layer in (f"blk.{number}." for number in range(LAYERS)):
        shapes = {
            "attn_q": (EMBEDDING, EMBEDDING), "attn_k": (kv, EMBEDDING), "attn_v": (kv, EMBEDDING),
            "attn_output": (EMBEDDING, EMBEDDING), "ffn_gate": (FEED_FORWARD, EMBEDDING),
            "ffn_up": (FEED_FORWARD, EMBEDDING), "ffn_down": (EMBEDDING, FEED_FORWARD),
        }  # fmt: skip
        found |= {f"{layer}{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        found |= {f"{layer}attn_norm.weight": ones, f"{layer}ffn_norm.weight": ones}
    return found
