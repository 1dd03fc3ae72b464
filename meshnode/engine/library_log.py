"""What llama.cpp says while it works: its last lines, its errors, and which layer went to which device. Pure.

The number of layers "offloaded" that llama.cpp prints is the number it was asked for, also on a machine without any
GPU. The truth is in one debug line per layer, ``load_tensors: layer N assigned to device NAME``; that is what is read.
"""

from __future__ import annotations

import re
from collections import Counter, deque

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5
"""ggml's levels."""
_ASSIGNED = re.compile(r"layer\s+(\d+) assigned to device ([^,\s]+)")
_BUFFER = re.compile(r"(?:(\S+)\s+)?\b(model|KV|RS|compute|output) buffer size\s*=\s*([\d.]+) MiB")
_MEMORY = re.compile(r"alloc|out of memory|memory", re.IGNORECASE)


class LibraryLog:
    """Takes lines as the callback gets them; keeps ``keep`` of them."""

    def __init__(self, keep: int = 50) -> None:
        self._lines: deque[str] = deque(maxlen=keep)
        self._errors: deque[str] = deque(maxlen=8)
        self._devices: dict[int, str] = {}
        self._buffers: dict[tuple[str, str, int], int] = {}
        self._last = INFO

    def add(self, level: int, text: str) -> str | None:
        """Take one message; gives back an error line, which is worth showing, else ``None``."""
        if level == CONTINUED:
            level = self._last
        self._last = level
        line = text.strip()
        if level <= DEBUG:
            self._note_layer(line)
        elif len(line) > 1:
            self._lines.append(line)
            self._note_buffer(line)
        if level != ERROR or not line:
            return None
        self._errors.append(line)
        return line

    def forget(self) -> None:
        """A new load begins."""
        self._lines.clear()
        self._errors.clear()
        self._devices.clear()
        self._buffers.clear()

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines, oldest first; no debug output."""
        return tuple(self._lines)

    @property
    def reason(self) -> str:
        """The last errors as one line, the first cause first; '' if there were none."""
        return "; ".join(dict.fromkeys(self._errors))

    @property
    def out_of_memory(self) -> bool:
        """Whether the errors speak of memory."""
        return bool(_MEMORY.search(self.reason))

    @property
    def memory(self) -> int:
        """Bytes of all the buffers that were allocated for the model and its context, on all devices."""
        return sum(self._buffers.values())

    def layers_on(self, n_layers: int) -> Counter[str]:
        """How many of the model's ``n_layers`` repeating layers each device has (the output layer is not counted)."""
        return Counter(device for layer, device in self._devices.items() if layer < n_layers)

    def _note_buffer(self, line: str) -> None:
        """A compute buffer is told anew each time it grows; the last word counts."""
        if (found := _BUFFER.search(line)) is None:
            return
        device, kind = found[1] or "", found[2]
        again = 0 if kind == "compute" else len(self._buffers)
        self._buffers[device, kind, again] = int(float(found[3]) * 2**20)

    def _note_layer(self, line: str) -> None:
        if (found := _ASSIGNED.search(line)) is not None:
            self._devices[int(found[1])] = found[2]
