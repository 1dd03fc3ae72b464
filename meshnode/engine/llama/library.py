"""The library as a whole: its log, its compute backends, the devices it sees.

llama.cpp prints to the terminal unless its log is taken from it, which is done for the whole process: what it says goes
to :data:`LOG`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any, cast

import llama_cpp.llama_cpp as api
from llama_cpp._ggml import libggml

from meshnode.engine.library_log import LibraryLog
from meshnode.engine.pipe import Device

LOG = LibraryLog()
"""What the library said; one per process, as the library's own log is."""
_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel", 4: "meta"}
"""``enum ggml_backend_dev_type``."""


@api.llama_log_callback  # type: ignore[untyped-decorator]
def _take_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    line = LOG.add(level, text.decode("utf-8", "replace"))
    if line is not None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201  the parent keeps a worker's last words


def open_library() -> None:
    """Take the library's log and initialise its backends. May be called again."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # an abort would else start a debugger on this process
    api.llama_log_set(_take_log, ctypes.c_void_p(0))
    api.llama_backend_init()


def _ggml(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of ggml that llama-cpp-python does not bind."""
    function = getattr(libggml, name)
    function.restype, function.argtypes = result, list(arguments)
    return cast(Callable[..., Any], function)


def backends() -> tuple[str, ...]:
    """Names of the compute backends in the installed library, as ``CPU``, ``CUDA``, ``Vulkan``."""
    count = _ggml("ggml_backend_reg_count", ctypes.c_size_t)()
    get = _ggml("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    name = _ggml("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    return tuple(text_of(name(get(index))) for index in range(count))


def devices() -> tuple[Device, ...]:
    """The compute devices the library sees, CPUs among them."""
    get = _ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    return tuple(_device(get(index)) for index in range(_ggml("ggml_backend_dev_count", ctypes.c_size_t)()))


def _device(handle: int) -> Device:
    size = ctypes.POINTER(ctypes.c_size_t)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _ggml("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)(handle, free, total)
    return Device(
        name=text_of(_ggml("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)(handle)),
        description=text_of(_ggml("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)(handle)),
        kind=_KINDS.get(_ggml("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)(handle), "other"),
        memory_total=total.value,
        memory_free=free.value,
    )


def system_info() -> str:
    """The CPU features the library was built for and found."""
    return text_of(api.llama_print_system_info()).strip()


def text_of(data: bytes | None) -> str:
    """The library's bytes as text; none are an empty one."""
    return (data or b"").decode("utf-8", "replace")
