"""Worker processes that behave oddly, written as a few lines of Python each, for the runner to live with."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import msgspec

from meshnode.engine.pipe import EngineInfo
from meshnode.engine.process import Process, Spawn, start, worker_environment

INFO = EngineInfo(
    n_ctx=4096,
    n_ctx_train=4096,
    n_seq_max=4,
    n_vocab=259,
    n_layers=1,
    gpu_layers=0,
    devices=(),
    used_devices=("CPU",),
    backends=("CPU",),
    system_info="",
    threads=1,
    threads_batch=1,
    n_params=0,
    size_bytes=0,
    has_template=False,
    template_sha256="",
)
"""What the scripted workers say of themselves."""

_PRELUDE = """
import os, signal, socket, sys, time
from meshnode.domain import FinishReason
from meshnode.engine.pipe import *
from meshnode.events import *
from meshnode.wire.frames import FrameReader, pack
sock = socket.socket(fileno=int(sys.argv[1]))
reader, ready = FrameReader(limit=2**26), []
def say(message): sock.sendall(pack(encode(message), limit=2**26))
def hear():
    while not ready:
        data = sock.recv(65536)
        if not data: sys.exit(0)
        ready.extend(reader.feed(data))
    return decode_to_worker(ready.pop(0))
def load():
    message = hear()
    say(Ready(INFO))
    return message
INFO = msgspec.convert({info!r}, EngineInfo)
"""


def scripted(source: str) -> Spawn:
    """A worker that runs ``source`` with ``sock``, ``say``, ``hear``, ``load`` (hear Load, say Ready) and ``INFO``."""
    prelude = "import msgspec\n" + _PRELUDE.replace("{info!r}", repr(msgspec.to_builtins(INFO)))

    def spawn(theirs: socket.socket) -> Process:
        command = (sys.executable, "-c", prelude + source, str(theirs.fileno()))
        environ = worker_environment(os.environ)
        return start(command, fds=[theirs.fileno()], environ=environ, stdout=subprocess.DEVNULL)

    return spawn
