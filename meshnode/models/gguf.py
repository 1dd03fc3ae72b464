"""What a GGUF says about its model, read and judged before llama.cpp sees the file. Pure, bounded.

:mod:`meshnode.models.gguf_layout` reads the bytes; here the keys get their meaning (names as in llama.cpp's
``llama-arch.cpp``), and a value that is of the wrong type or out of any sensible range is refused by name.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import BinaryIO

from meshnode.domain import Kind, Record
from meshnode.errors import ModelFileRefused
from meshnode.models.gguf_layout import Array, GgufFile, Tensor, Value, read_gguf, refuse, show
from meshnode.models.quantisation import FILE_TYPES

MAX_LAYERS = 4096
MAX_CONTEXT = (1 << 31) - 1
MAX_WIDTH = 1 << 20
"""Bound on heads and on the length of any vector of the model: no product of those we take leaves 64 bits."""
MAX_TEXT = 200
"""Characters of a name or licence that are kept."""

_ARCHITECTURE = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")
_GUESSED = 1024
"""``LLAMA_FTYPE_GUESSED``: a flag on ``general.file_type``."""


class GgufMetadata(Record, frozen=True):
    """A model as its file describes it. Sizes in bytes; 0 and '' where the file does not say.

    ``kind`` is ``general.type`` (``model``, ``adapter``, ``mmproj`` …). ``kv_bytes_per_token`` is for an f16
    cache with every layer attending over the whole context, so an upper bound for hybrid and sliding-window models.
    ``state_bytes`` is what one conversation takes of a recurrent model's state, all layers being counted as such.
    ``row_floats`` is how many floats computing one token holds at its widest, and ``active_bytes`` how much of the
    weights it reads: of a mixture of experts those in use.
    ``split_count`` over 1 means the file is one shard of several, number ``split_no`` (from 0).
    """

    version: int
    architecture: str
    quantisation: str
    kind: str = "model"
    name: str = ""
    basename: str = ""
    size_label: str = ""
    finetune: str = ""
    license: str = ""
    context_length: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    embedding_length: int = 0
    vocab_size: int = 0
    parameters: int = 0
    kv_bytes_per_token: int = 0
    state_bytes: int = 0
    row_floats: int = 0
    active_bytes: int = 0
    tokenizer: str = ""
    chat_template: str | None = None
    template_sha256: str = ""
    kinds: tuple[str, ...] = (Kind.GENERATE.value, Kind.EMBED.value)
    """What may be asked of it; none where it should rank documents and cannot."""
    split_no: int = 0
    split_count: int = 0
    tensor_count: int = 0
    tensor_bytes: int = 0


MADE_TO_EMBED = frozenset({
    "bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "modern-bert", "eurobert",
    "gemma-embedding",
})  # fmt: skip
"""Architectures that keep no memory of what they read, by llama.cpp's names: they generate nothing."""
_RANK = 4
"""``{arch}.pooling_type`` of a reranker; 0 is none, 1 to 3 make one vector (``enum llama_pooling_type``)."""


_HEADS = frozenset({"cls.weight", "cls.output.weight"})
"""Tensors that make a score of what a reranker has read."""


def read_metadata(file: BinaryIO, size: int) -> GgufMetadata:
    """Read a GGUF of ``size`` bytes from where ``file`` stands. Raises ModelFileRefused on anything unsound."""
    return describe(read_gguf(file, size))


def check_servable(metadata: GgufMetadata) -> None:
    """Refuse, by name, a sound GGUF that is no whole language model. Raises ModelFileRefused."""
    if metadata.split_count > 1:
        raise ModelFileRefused(
            f"the file is shard {metadata.split_no + 1} of {metadata.split_count}; split models are not served.",
            hint="Join the shards with `llama-gguf-split --merge`, then add the joined file.",
        )
    if metadata.kind != "model" or metadata.architecture == "clip":
        kind = "vision projector" if metadata.architecture == "clip" else metadata.kind
        raise ModelFileRefused(
            f"the file holds a GGUF of kind {show(kind)}, not a language model.", hint="Add the model's own file."
        )
    if not metadata.kinds:
        raise ModelFileRefused(
            "the file says that its model ranks, and has no tensor that gives a score.",
            hint="Convert the model anew, with its classification head.",
        )
    if not metadata.tensor_count or not metadata.layers or not metadata.context_length:
        raise ModelFileRefused(
            f"the file describes {metadata.tensor_count} tensors, {metadata.layers} layers and a context of "
            f"{metadata.context_length}: there is no model in it.",
            hint="A vocabulary alone cannot answer; fetch the whole model.",
        )


def _layers(pairs: _Pairs, architecture: str) -> int:
    """How many layers a model of an architecture that has a name has. Raises ModelFileRefused."""
    if not _ARCHITECTURE.match(architecture):
        raise refuse(f"general.architecture is {show(architecture)}")
    return pairs.number(f"{architecture}.block_count", MAX_LAYERS)


def describe(file: GgufFile) -> GgufMetadata:
    """The model that the pairs and tensors of a file describe. Raises ModelFileRefused."""
    pairs = _Pairs(file.pairs)
    architecture = pairs.text("general.architecture")
    layers = _layers(pairs, architecture)
    heads = pairs.per_layer(f"{architecture}.attention.head_count", layers)
    kv_heads = pairs.per_layer(f"{architecture}.attention.head_count_kv", layers) or heads
    width, most_heads = pairs.number(f"{architecture}.embedding_length", MAX_WIDTH), max(heads, default=0)
    template = file.raw.get("tokenizer.chat_template")
    return GgufMetadata(
        version=file.version,
        architecture=architecture,
        quantisation=_quantisation(pairs.number("general.file_type", 1 << 16, default=-1), file.tensors),
        kind=pairs.text("general.type") or "model",
        name=pairs.text("general.name"),
        basename=pairs.text("general.basename"),
        size_label=pairs.text("general.size_label"),
        finetune=pairs.text("general.finetune"),
        license=pairs.text("general.license"),
        context_length=pairs.number(f"{architecture}.context_length", MAX_CONTEXT),
        layers=layers,
        heads=most_heads,
        kv_heads=max(kv_heads, default=0),
        embedding_length=width,
        vocab_size=pairs.length("tokenizer.ggml.tokens") or pairs.number(f"{architecture}.vocab_size", 1 << 31),
        parameters=sum(tensor.elements for tensor in file.tensors),
        state_bytes=_state_bytes(pairs, architecture, layers),
        row_floats=_row_floats(pairs, architecture, layers, width),
        active_bytes=_active_bytes(pairs, architecture, file.tensors),
        kv_bytes_per_token=_kv_bytes(pairs, architecture, width, most_heads, kv_heads),
        tokenizer=pairs.text("tokenizer.ggml.model"),
        chat_template=None if template is None else template.decode("utf-8", "replace"),
        template_sha256="" if template is None else hashlib.sha256(template).hexdigest(),
        kinds=_kinds(architecture, pairs.number(f"{architecture}.pooling_type", _RANK), judges=_judges(file)),
        split_no=pairs.number("split.no", 1 << 16),
        split_count=pairs.number("split.count", 1 << 16),
        tensor_count=len(file.tensors),
        tensor_bytes=sum(tensor.size for tensor in file.tensors),
    )


def _kv_bytes(pairs: _Pairs, architecture: str, width: int, heads: int, kv_heads: tuple[int, ...]) -> int:
    """K and V of one token in f16, all layers: ``sum(kv_heads) x (key + value length) x 2``."""
    per_head = width // heads if heads else 0
    key = pairs.number(f"{architecture}.attention.key_length", MAX_WIDTH, default=per_head)
    value = pairs.number(f"{architecture}.attention.value_length", MAX_WIDTH, default=per_head)
    return sum(kv_heads) * (key + value) * 2


def _judges(file: GgufFile) -> bool:
    """Whether there is what makes a verdict of what a model read; llama.cpp would take any number for one."""
    return any(tensor.name in _HEADS for tensor in file.tensors)


def _kinds(architecture: str, pooling: int, *, judges: bool) -> tuple[str, ...]:
    """A file that says how to pool is of a model made for embeddings, or for ranking."""
    if pooling == _RANK:
        return (Kind.RERANK.value,) if judges else ()
    embeds = bool(pooling) or architecture in MADE_TO_EMBED
    return (Kind.EMBED.value,) if embeds else (Kind.GENERATE.value, Kind.EMBED.value)


def _state_bytes(pairs: _Pairs, architecture: str, layers: int) -> int:
    """Of a state-space model (``ssm`` keys): the last inputs of the convolution, and the state, in f32."""
    kernel, inner, state, groups = (
        pairs.number(f"{architecture}.ssm.{key}", MAX_WIDTH)
        for key in ("conv_kernel", "inner_size", "state_size", "group_count")
    )
    return layers * 4 * (max(kernel - 1, 0) * (inner + 2 * groups * state) + state * inner)


def _row_floats(pairs: _Pairs, architecture: str, layers: int, width: int) -> int:
    """Three vectors of the feed-forward's length and four of the model's: what llama.cpp's graphs were seen to hold."""
    dense = max(pairs.per_layer(f"{architecture}.feed_forward_length", layers), default=0)
    used = pairs.number(f"{architecture}.expert_used_count", MAX_WIDTH)
    expert = pairs.number(f"{architecture}.expert_feed_forward_length", MAX_WIDTH, default=dense if used else 0)
    return max(3 * dense * (not used) + 4 * width, used * (3 * expert + width) + 4 * width)


def _active_bytes(pairs: _Pairs, architecture: str, tensors: tuple[Tensor, ...]) -> int:
    """All weights but the experts that sit idle and the table of embeddings, of which one row is read."""
    experts = pairs.number(f"{architecture}.expert_count", MAX_WIDTH)
    used = min(pairs.number(f"{architecture}.expert_used_count", MAX_WIDTH), experts)
    tied = not any(tensor.name == "output.weight" for tensor in tensors)
    total = 0
    for tensor in tensors:
        if "_exps." in tensor.name and experts:
            total += tensor.size * used // experts
        elif tied or tensor.name != "token_embd.weight":
            total += tensor.size
    return total


def _quantisation(file_type: int, tensors: tuple[Tensor, ...]) -> str:
    named = FILE_TYPES.get(file_type & ~_GUESSED) if file_type >= 0 else None
    if named is not None:
        return named
    bytes_of: Counter[str] = Counter()
    for tensor in tensors:
        bytes_of[tensor.type.name] += tensor.size
    return max(bytes_of, key=lambda name: (bytes_of[name], name), default="unknown")


class _Pairs:
    """Typed, range-checked access to a file's pairs."""

    def __init__(self, pairs: dict[str, Value]) -> None:
        self._pairs = pairs

    def text(self, key: str) -> str:
        """A string without control characters, cut at :data:`MAX_TEXT`; '' where there is none, or something else."""
        value = self._pairs.get(key)
        if not isinstance(value, str):
            return ""
        return "".join(c for c in value if c.isprintable())[:MAX_TEXT].strip()

    def number(self, key: str, limit: int, *, default: int = 0) -> int:
        """A whole number from 0 to ``limit``."""
        value = self._pairs.get(key)
        if value is None:
            return default
        return _whole(key, value, limit)

    def per_layer(self, key: str, layers: int) -> tuple[int, ...]:
        """One number for each layer, from an array or a single value that holds for all."""
        value = self._pairs.get(key)
        if value is None:
            return ()
        if not isinstance(value, Array):
            return (_whole(key, value, MAX_WIDTH),) * layers
        if value.values is None or value.length < layers:
            raise refuse(f"{key} has {value.length} numbers for {layers} layers")
        return tuple(_whole(key, item, MAX_WIDTH) for item in value.values[:layers])

    def length(self, key: str) -> int:
        """How many elements an array has; 0 where there is none."""
        value = self._pairs.get(key)
        if value is None:
            return 0
        if not isinstance(value, Array):
            raise refuse(f"{key} is not an array")
        return value.length


def _whole(key: str, value: Value, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise refuse(f"{key} is not a whole number")
    if not 0 <= value <= limit:
        raise refuse(f"{key} is {value}; at most {limit} is allowed")
    return value
