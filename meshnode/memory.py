"""The memory that models share: what is free of it, who fits beside whom, and with how much context.

It joins what two rooms know and may not tell each other: the engine's machine, and what the models' files say they
take (:mod:`meshnode.models.fit`). The figures are estimates; each load is compared with what it really took.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from meshnode.config import EngineSettings
from meshnode.domain import ModelCard, ModelId, Record
from meshnode.engine.machine import Machine
from meshnode.engine.room import Tenant, Verdict
from meshnode.models.fit import RESERVE_GPU, RESERVE_RAM, Fit, Memory, fit
from meshnode.models.speed import Load, Pace, Speeds
from meshnode.storage.facts import Facts

LOADED = "model_loaded"
"""The kind of the facts that speeds are learnt from."""
MILLI = 1000
FACTS_RECALLED = 500
"""How far back the speeds of models are looked for."""
UNKNOWN = 1 << 60
"""Bytes that are taken to be free where the system does not say."""


Note = Callable[[str, Mapping[str, str | int | float]], Awaitable[None]]
"""Hears a fact: its kind and its fields."""


class Outlook(Record, frozen=True, omit_defaults=False):
    """Whether a model runs here, where, with how much context, and how fast. Sizes in bytes."""

    model: ModelId
    fits: bool
    fit: Fit
    speed: Pace


class ModelMemory:
    """Judges which models fit. ``ram_free`` gives the bytes of main memory that can be had now."""

    def __init__(self, machine: Machine, settings: EngineSettings, ram_free: Callable[[], int]) -> None:
        self.machine = machine
        self._settings = settings
        self._ram_free = ram_free
        self._contexts: dict[ModelId, int] = {}
        self._speeds = Speeds()

    # --- for the pool -------------------------------------------------------------------------

    def room(self, card: ModelCard, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Verdict:
        """A :data:`meshnode.engine.room.Room`. Where the owner named no context, a shorter one that fits will do."""
        found = self._fit(card, self._settings.context, staying, leaving)
        if not found.fits and not self._settings.context and found.largest_context:
            found = self._fit(card, found.largest_context, staying, leaving)
        if found.fits:
            self._contexts[card.id] = found.context
        return Verdict(found.fits, found.sentence, found.needed)

    def context_for(self, card: ModelCard) -> int:
        """Tokens of context to load a model with: what the owner set, or what was found to fit."""
        return self._settings.context or self._contexts.get(card.id, 0)

    # --- for people ---------------------------------------------------------------------------

    def outlook(self, card: ModelCard, context: int = 0) -> Outlook:
        """How a model would run alone, with the memory that is free now. ``context`` 0: as the settings have it."""
        found = self._fit(card, context or self._settings.context, (), ())
        speed = self._speeds.of(card, on_gpu=found.placement == "gpu")
        return Outlook(model=card.id, fits=found.fits, fit=found, speed=speed)

    def heard(self, kind: str, fields: Mapping[str, object]) -> None:
        """A fact: of a load, its speed is remembered; old ones without one are passed over."""
        model, bytes_, speed, layers = (fields.get(name) for name in ("model", "active", "decode_mtps", "gpu_layers"))
        if kind == LOADED and isinstance(model, str) and isinstance(bytes_, int) and isinstance(speed, int):
            self._speeds.remember(
                Load(model=ModelId(model), active_bytes=bytes_, decode_tps=speed / MILLI, on_gpu=bool(layers))
            )

    async def recall(self, facts: Facts) -> None:
        """Hear of the loads of earlier lives."""
        for fact in reversed(await facts.newest(FACTS_RECALLED)):
            self.heard(fact.kind, fact.fields)

    def noting(self, note: Note) -> Note:
        """``note``, that lets this hear of each fact as well."""

        async def noted(kind: str, fields: Mapping[str, str | int | float]) -> None:
            self.heard(kind, fields)
            await note(kind, fields)

        return noted

    # --- what is free -------------------------------------------------------------------------

    def _fit(self, card: ModelCard, context: int, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Fit:
        return fit(card, self._left(staying, leaving), n_ctx=context, slots=self._settings.slots)

    def _left(self, staying: Sequence[Tenant], leaving: Sequence[Tenant]) -> Memory:
        """What is left for one more, once those that leave are gone."""
        gpu = 0 if self._settings.cpu else self._gpu_total()
        taken = sum(self._takes(tenant) for tenant in staying)
        if self._settings.memory:
            left = max(0, self._settings.memory - taken)  # what the owner gave is meant whole, without a reserve
            on_gpu = min(left + RESERVE_GPU, max(0, gpu - taken))
            return Memory(ram_free=left + RESERVE_RAM, gpu_free=on_gpu, shared=True)
        back = sum(self._takes(tenant) for tenant in leaving if tenant.settled)
        coming = sum(self._takes(tenant) for tenant in staying if not tenant.settled)
        mapped = sum(
            tenant.card.size for tenant in staying if tenant.settled
        )  # the kernel calls it free: it is a cache
        given_back = max(0, back - sum(tenant.card.size for tenant in leaving if tenant.settled))
        free = self._ram_free() or UNKNOWN
        if gpu:
            return Memory(ram_free=free, gpu_free=max(0, gpu - taken), shared=self.machine.unified)
        return Memory(ram_free=max(0, free + given_back - coming - mapped))

    def _takes(self, tenant: Tenant) -> int:
        everything = Memory(ram_free=UNKNOWN)
        return fit(tenant.card, everything, n_ctx=self.context_for(tenant.card), slots=self._settings.slots).needed

    def _gpu_total(self) -> int:
        """Of all GPUs, as they were when the node started: no model was loaded then."""
        return sum(device.memory_free for device in self.machine.probe.devices if device.kind == "gpu")
