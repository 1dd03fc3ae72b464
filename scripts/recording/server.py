"""llama-server, and what its /apply-template renders."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2


@contextlib.contextmanager
def server(program: Path, model: Path, template: Path | None) -> Iterator[httpx2.Client]:
    """llama-server on a free loopback port, as a client of it; ``template`` None stands for the model's own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(program), "--model", str(model), "--jinja", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ctx-size", "256", "--parallel", "1", "--threads", "1", "--no-warmup"]
    command += ["--chat-template-file", str(template)] if template else []
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            wait_until_ready(client, running)
            yield client
    finally:
        running.terminate()
        running.wait(timeout=20)


def wait_until_ready(client: httpx2.Client, running: subprocess.Popen[bytes]) -> None:
    """Return when the server has loaded its model; exit with a message when it ends instead."""
    while running.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            if client.get("/health").is_success:
                return
        time.sleep(0.05)
    sys.exit(f"llama-server ended with status {running.returncode}")


def properties(client: httpx2.Client) -> dict[str, Any]:
    """The server's build, the template as it uses it, and the texts of BOS and EOS."""
    found = client.get("/props").json()
    return {
        "llama_server": found["build_info"],
        "template": found["chat_template"],
        "bos": found["bos_token"],
        "eos": found["eos_token"],
    }


def outcomes(client: httpx2.Client, cases: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What the server made of each request: ``prompt``, or ``error`` with its message."""
    answers = {name: client.post("/apply-template", json=fields) for name, fields in cases.items()}
    return {
        name: {"prompt": answer.json()["prompt"]} if answer.is_success else {"error": answer.json()["error"]["message"]}
        for name, answer in answers.items()
    }
