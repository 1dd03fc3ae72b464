"""What this machine offers the engine, looked at once at start: never silently on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio

from meshnode.domain import Record
from meshnode.engine.hardware import detect, judge
from meshnode.engine.probe import Probe, probe
from meshnode.engine.ram import ram
from meshnode.errors import AcceleratorUnusable


class Machine(Record, frozen=True, kw_only=True):
    """What the engine's library sees here; ``note`` is a sentence for the owner."""

    probe: Probe
    note: str | None = None

    @property
    def accelerated(self) -> bool:
        """Whether there is a GPU with memory of its own."""
        return any(device.kind == "gpu" for device in self.probe.devices)

    @property
    def unified(self) -> bool:
        """Whether the GPU has no memory of its own, but shares the machine's (Apple's)."""
        return bool({"METAL", "MTL"} & {name.upper() for name in self.probe.backends})

    def ram_free(self, root: Path = Path("/")) -> int:
        """Bytes of main memory that can be had; as the library says where the system does not."""
        return ram(root).free or max(self._free("cpu"), default=0)

    def free_memory(self, root: Path = Path("/")) -> int:
        """Bytes free for a model: of the largest GPU, or of the machine where there is none.

        On Linux what can be had without swapping (:mod:`meshnode.engine.ram`; ``root`` is where it looks).
        Elsewhere what the library says of the processor, which is the memory there is.
        """
        gpus = self._free("gpu")
        return max(gpus) if gpus else self.ram_free(root)

    def _free(self, kind: str) -> list[int]:
        return [device.memory_free for device in self.probe.devices if device.kind == kind]


NO_ENGINE = Machine(probe=Probe(backends=(), devices=(), gpu_offload=False))
"""The machine of a node that runs no models."""


async def look_around(environ: Mapping[str, str], *, cpu: bool) -> Machine:
    """Ask the library for its devices. Raises AcceleratorUnusable where it would run on the CPU unasked."""
    found = await probe(environ)
    verdict = judge(await trio.to_thread.run_sync(detect), found.backends, found.devices, cpu=cpu)
    if verdict.error:
        raise AcceleratorUnusable(verdict.error, hint=verdict.hint)
    return Machine(probe=found, note=verdict.note)
