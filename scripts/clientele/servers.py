"""The servers that the clients are sent to: a node of this checkout, and llama-server beside it."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx2

from benchmark.nodes import Node, environment
from benchmark.servers import Setup, llama_server
from clientele.checks.checklist import Target

KEY: Final = "mesh-clients-key-0123456789abcdef"
SLOTS: Final = 4
START_S: Final = 120.0
STOP_S: Final = 10.0


class ServerFailed(Exception):
    """A server did not start; the message has its last words."""


def _setup(model: Path, context: int, *, slots: int = SLOTS, embeddings: bool = False) -> Setup:
    return Setup(model=model, threads=1, context=context, slots=slots, gpu_layers=0, embeddings=embeddings)


@contextlib.contextmanager
def node(folder: Path, name: str, model: Path, *flags: str) -> Iterator[str]:
    """A node of this checkout, alone, on free ports; gives its URL without ``/v1``. Raises NodeError."""
    started = Node(name, folder, "--model", str(model), *flags)
    try:
        started.start()
        yield started.api.removesuffix("/v1")
    finally:
        started.stop()


@contextlib.contextmanager
def ours(folder: Path, model: Path, context: int) -> Iterator[Target]:
    """Two nodes: one as it comes, one that asks for a key and answers one request at a time."""
    keys = folder / "keys"
    keys.write_text(hashlib.sha256(KEY.encode()).hexdigest() + " clients\n")
    keys.chmod(0o600)
    sizes = ("--context", str(context))
    strict = ("--api-local-key", "--api-key-file", str(keys), "--api-max-generating", "1", "--api-max-queued", "1")
    with (
        node(folder, "open", model, *sizes, "--slots", str(SLOTS)) as url,
        node(folder, "guarded", model, *sizes, "--slots", "1", *strict) as guarded,
    ):
        yield Target(url, url, listed(url), KEY, guarded)


@contextlib.contextmanager
def theirs(folder: Path, program: Path, model: Path, context: int) -> Iterator[Target]:
    """Three of llama-server's processes: chat, embeddings (which it does alone), and one with a key and one slot."""
    with (
        _llama(folder, program, _setup(model, context)) as url,
        _llama(folder, program, _setup(model, context, embeddings=True)) as embeddings,
        _llama(folder, program, _setup(model, context, slots=1), "--api-key", KEY) as guarded,
    ):
        yield Target(url, embeddings, listed(url), KEY, guarded)


def listed(url: str) -> str:
    """The id of the first model that a server lists."""
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return str(client.get(f"{url}/v1/models").raise_for_status().json()["data"][0]["id"])


@contextlib.contextmanager
def _llama(folder: Path, program: Path, setup: Setup, *flags: str) -> Iterator[str]:
    """llama-server on a free port, once it is well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"llama-{port}.log"
    command = [*llama_server(program, setup, port), "--alias", setup.model.stem, *flags]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment())
    try:
        url = f"http://127.0.0.1:{port}"
        _await_health(process, url, log)
        yield url
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        process.wait()


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    with httpx2.Client(trust_env=False, timeout=5) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(f"{url}/health").is_success:
                    return
            time.sleep(0.05)
    raise ServerFailed(
        f"llama-server did not start (status {process.poll()}):\n{log.read_text(errors='replace')[-1000:]}"
    )
