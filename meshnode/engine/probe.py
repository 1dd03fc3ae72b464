"""What the installed llama.cpp can do on this machine, asked of a worker process that exits at once.

A process of its own, because a GPU's runtime that is broken can take down the process that loads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec
import trio

from meshnode.domain import Record
from meshnode.engine.last_words import LastWords, telling
from meshnode.engine.pipe import Device
from meshnode.engine.process import exit_reason, start, worker_command, worker_environment
from meshnode.errors import OwnerError

_MOST = 2**20
_CHUNK = 2**16
_HINT = "Build the engine's library again: ./scripts/run --rebuild"


class Probe(Record, frozen=True, kw_only=True):
    """The library's own account of itself."""

    backends: tuple[str, ...]
    devices: tuple[Device, ...]
    gpu_offload: bool
    system_info: str = ""


async def probe(
    environ: Mapping[str, str], *, timeout_s: float = 60.0, command: Sequence[str] = worker_command("--probe")
) -> Probe:
    """Run the worker's probe. Raises OwnerError with the last words of a library that cannot be loaded."""
    ours, theirs = os.pipe()
    output, words = bytearray(), LastWords()
    try:
        child = start(command, environ=worker_environment(environ), stdout=theirs)
    except OSError as error:
        os.close(ours)
        raise OwnerError(f"the engine's worker cannot be started: {error.strerror}.", hint=_HINT) from error
    finally:
        os.close(theirs)
    status: int | None = None
    try:
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_collect, trio.lowlevel.FdStream(ours), output)
                nursery.start_soon(_listen, child.errors, words)
                status = await child.wait()
    finally:
        child.kill()
        with trio.CancelScope(shield=True):
            await child.wait()
    return _read(bytes(output), status, words)


async def _collect(stream: trio.abc.ReceiveStream, output: bytearray) -> None:
    async with stream:
        while (data := await stream.receive_some(_CHUNK)) and len(output) < _MOST:
            output += data


async def _listen(stream: trio.abc.ReceiveStream, words: LastWords) -> None:
    async with stream:
        while data := await stream.receive_some(_CHUNK):
            words.feed(bytes(data))
    words.close()


def _read(output: bytes, status: int | None, words: LastWords) -> Probe:
    if status is None:
        raise OwnerError("the engine's worker did not answer what devices there are.", hint=_HINT)
    if status == 0:
        try:
            return msgspec.json.decode(output.strip().rpartition(b"\n")[2], type=Probe)
        except msgspec.DecodeError:
            pass
    said = telling(words.lines) or "it said nothing"
    raise OwnerError(f"the engine's library cannot be used: the worker {exit_reason(status)}: {said}", hint=_HINT)
