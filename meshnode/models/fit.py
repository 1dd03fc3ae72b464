"""Will a model run here: weights, cache and buffers against the memory that is free. Pure; estimates, not promises.

What llama.cpp allocates, as seen in its load logs: the weights as they lie in the file; K and V for ``n_ctx`` cells,
which all conversations share (the cache is unified, so slots cost no cells of their own), or a state for each of them
where the model is recurrent; a compute buffer for the widest vectors of one micro-batch and the mask over all cells;
the output of one token for each conversation; and on a GPU the driver's own context. The worker's own process comes
on top. Memory-mapped weights on the CPU could be
paged out, but then every token waits for the disk: they count in full.
"""

from __future__ import annotations

from typing import Literal

from meshnode.domain import ModelCard, Record

GIB = 1 << 30
MIB = 1 << 20
DEFAULT_CONTEXT = 32768
"""Context aimed at where none is asked for (the model's own, if that is smaller)."""
SMALLEST_CONTEXT = 512
CONTEXT_STEP = 256
UNKNOWN_VOCABULARY = 152_000
WIDTHS_OF_A_ROW = 12
"""Vectors of the model's length that one row holds, where its file did not say more."""
SPARE_ROWS = 32
"""Rows of output beside one for each slot: the engine keeps sequence ids for idle prefixes, unless each has a state."""
PROCESS = 64 * MIB
"""What a worker takes before it loads anything."""
RESERVE_RAM = 256 * MIB
RESERVE_GPU = 400 * MIB
"""A GPU's driver context and what the desktop may still take."""

Placement = Literal["gpu", "split", "cpu", "none"]


class Memory(Record, frozen=True):
    """What is free, in bytes. ``shared``: the GPU uses main memory, so that only one of the two may be counted."""

    ram_free: int
    gpu_free: int = 0
    shared: bool = False


class Fit(Record, frozen=True):
    """The judgement: where it would run, how many of its layers on a GPU, and what it would take (bytes).

    ``largest_context`` is what fits in the same placement, 0 where the weights alone are too much.
    """

    placement: Placement
    gpu_layers: int
    layers: int
    context: int
    largest_context: int
    weights: int
    cache: int
    compute: int
    needed: int
    free: int
    sentence: str

    @property
    def fits(self) -> bool:
        """Whether it runs at all."""
        return self.placement != "none"


def fit(card: ModelCard, memory: Memory, *, n_ctx: int = 0, slots: int = 16, n_ubatch: int = 512) -> Fit:
    """Judge ``card`` with ``n_ctx`` cells shared by ``slots`` conversations. ``n_ctx`` 0: the model's own, capped."""
    context = n_ctx or min(card.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    costs = _Costs(card, slots, n_ubatch)
    gpu = max(memory.gpu_free - RESERVE_GPU, 0) if memory.gpu_free else 0
    ram = max(memory.ram_free - RESERVE_RAM, 0)
    gpu_layers = costs.layers_within(gpu, context)
    beside = 0 if memory.shared else ram
    if gpu_layers == costs.layers:
        return _judged(card, costs, "gpu", gpu_layers, context, gpu)
    if gpu_layers > 0 and costs.total(context) <= gpu + beside:
        return _judged(card, costs, "split", gpu_layers, context, gpu + beside)
    free = max(ram, gpu) if memory.shared else ram
    if costs.total(context) <= free:
        return _judged(card, costs, "cpu", 0, context, free)
    return _judged(card, costs, "none", 0, context, max(free, gpu + beside))


class _Costs:
    """Bytes as a function of the context; linear, so that it can be solved for it."""

    def __init__(self, card: ModelCard, slots: int, n_ubatch: int) -> None:
        rows = slots if card.state_bytes else slots + SPARE_ROWS
        outputs = 4 * rows * (card.vocab_size or UNKNOWN_VOCABULARY)
        row = 4 * n_ubatch * (card.row_floats or WIDTHS_OF_A_ROW * card.embedding_length)
        self.layers = max(card.layers, 1) + 1
        """Repeating layers and the output layer: what ``gpu_layers`` counts."""
        self.weights = card.size
        self._per_cell = card.kv_bytes_per_token
        self._mask_per_cell = 2 * n_ubatch
        self._states = slots * card.state_bytes
        self._buffers = max(row, outputs) + outputs + PROCESS

    def cache(self, context: int) -> int:
        return context * self._per_cell + self._states

    def compute(self, context: int) -> int:
        return self._buffers + context * self._mask_per_cell

    def total(self, context: int) -> int:
        return self.weights + self.cache(context) + self.compute(context)

    def layers_within(self, budget: int, context: int) -> int:
        """How many layers, with their share of the cache, go into ``budget`` beside the compute buffer."""
        left = budget - self.compute(context)
        share = (self.weights + self.cache(context)) // self.layers
        return max(min(left // max(share, 1), self.layers), 0)

    def largest_context(self, budget: int, limit: int) -> int:
        """The most cells that fit, a multiple of :data:`CONTEXT_STEP`, at most ``limit``."""
        left = budget - self.weights - self._buffers - self._states
        cells = left // max(self._per_cell + self._mask_per_cell, 1)
        if limit and cells >= limit:
            return limit
        cells -= cells % CONTEXT_STEP
        return cells if cells >= SMALLEST_CONTEXT else 0


def _judged(card: ModelCard, costs: _Costs, placement: Placement, gpu_layers: int, context: int, free: int) -> Fit:
    largest = costs.largest_context(free, card.context_length)
    needed = costs.total(context)
    return Fit(
        placement=placement,
        gpu_layers=gpu_layers,
        layers=costs.layers,
        context=context,
        largest_context=largest,
        weights=costs.weights,
        cache=costs.cache(context),
        compute=costs.compute(context),
        needed=needed,
        free=free,
        sentence=_sentence(card, placement, gpu_layers, costs.layers, context, largest, needed, free),
    )


def _sentence(
    card: ModelCard,
    placement: Placement,
    gpu_layers: int,
    layers: int,
    context: int,
    largest: int,
    needed: int,
    free: int,
) -> str:
    takes = f"about {gigabytes(needed)} of {gigabytes(free)} free, for {context:,} tokens of context"
    if placement == "gpu":
        return f"{card.id} fits on the GPU whole: {takes}."
    if placement == "split":
        return f"{card.id} fits with {gpu_layers} of {layers} layers on the GPU and the rest on the CPU: {takes}."
    if placement == "cpu":
        return f"{card.id} runs on the CPU: {takes}."
    if largest:
        return f"{card.id} does not fit with {context:,} tokens of context ({takes}); with {largest:,} it would."
    return f"{card.id} does not fit: it takes {takes}."


def gigabytes(count: int) -> str:
    """A size for people: ``98 MB`` or ``5.0 GB`` (decimal, as files are sold)."""
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
