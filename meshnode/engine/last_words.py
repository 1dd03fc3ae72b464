"""The last lines a worker wrote to its standard error: the reason of a failure, without anybody's text. Pure.

Until the worker has seen a request, whatever it says is about the model's file. From then on only lines of known
shape are kept (llama.cpp's and ggml's own, the C and C++ runtimes', Python's fault handler), because any other line
could quote a prompt or an answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

LINES = 50
LINE_LENGTH = 300
_KNOWN = re.compile(
    r"(GGML_ASSERT|ggml|llama_|llm_|graph_|load_|ggml_abort|CUDA|HIP|ROCm|Vulkan|Metal|vk::|terminate called|"
    r"malloc|free\(\)|corrupted|double free|munmap_chunk|std::|  what\(\):  std::|Fatal Python error|MemoryError|"
    r"Out of memory|  engine defect: \w+ at |Segmentation|  File \"[^\"]*\", line \d+ in \w+$)|.*: GGML_ASSERT\("
)
_DUMP = re.compile(r"(Current thread |Thread 0x|  File \"|Extension modules: |Stack \(most recent|<no Python frame>)")
_BUILT_AT = re.compile(r"^(?:/[^/\s:]+)+/(?=[^/\s:]+\.(?:c|cc|cpp|cu|h|hpp|m|metal):\d+: )")
"""Where the library was built, which names its builder and helps nobody."""
_NOISE = re.compile(r"^(\.+|\s*)$")


def telling(lines: Iterable[str], count: int = 3) -> str:
    """The last ``count`` lines as one, for a message, without the stack that Python's fault handler prints; or ''."""
    return " | ".join([line for line in lines if not _DUMP.match(line)][-count:])


class LastWords:
    """Keeps the last :data:`LINES` lines, each cut to :data:`LINE_LENGTH` characters."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)
        self._rest = b""
        self.guarded = False
        """Set once the worker has seen a request."""

    def feed(self, data: bytes) -> list[str]:
        """Take what was read from the pipe; the lines that were kept. One without an end is held, up to a bound."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: LINE_LENGTH * 4]
        return [kept for line in whole if (kept := self._keep(line))]

    def close(self) -> None:
        """The pipe ended: keep the line that has no end."""
        self._keep(self._rest)
        self._rest = b""

    @property
    def lines(self) -> tuple[str, ...]:
        """What was kept, oldest first."""
        return tuple(self._lines)

    def _keep(self, line: bytes) -> str:
        text = "".join(c if c.isprintable() else " " for c in line.decode("utf-8", "replace")).rstrip()
        text = _BUILT_AT.sub("", text[: LINE_LENGTH * 4], count=1)[:LINE_LENGTH]
        if _NOISE.match(text) or (self.guarded and not _KNOWN.match(text)):
            return ""
        self._lines.append(text)
        return text
