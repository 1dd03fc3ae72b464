"""A typed client of a running node, over its control socket; what the command line and other programs use.

It speaks the same HTTP as the API and is synchronous::

    with open_client(Path("~/.meshnode").expanduser()) as node:
        print(node.status().peer_id)

Every method raises NodeNotRunning when nothing answers on the socket, and the class of :mod:`meshnode.errors` that the
node's error envelope names.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from meshnode.client_records import Credits, History, Model, Outlook, Peer, PullProgress, Served, Status
from meshnode.domain import Message, ModelId, PeerId, Record, TextPart
from meshnode.errors import (
    DeadlineExceeded,
    Forbidden,
    InternalFault,
    ModelNotFound,
    NodeNotRunning,
    RequestError,
    ServingError,
)
from meshnode.events import kind_of

CONTROL_SOCKET: Final = "control.sock"
TIMEOUT_S: Final = 30.0
KNOCK_TIMEOUT_S: Final = 5.0
SILENCE_S: Final = 900.0
"""How long a streamed answer may pause: a large model may be loading before its first word."""
JOIN_TIMEOUT_S: Final = 120.0
"""How long joining may take: a peer is dialled at each of its addresses in turn."""
LONGEST_LINE: Final = 16 << 20
LONGEST_NAME: Final = 256
"""Characters of a model's name, as in a request."""

R = TypeVar("R")


class _Models(Record, frozen=True):
    models: tuple[Model, ...] = ()


class _OneModel(Record, frozen=True):
    model: Model


class _Removed(Record, frozen=True):
    id: ModelId


class _Peers(Record, frozen=True):
    peers: tuple[Peer, ...] = ()


class _Joined(Record, frozen=True):
    peer: PeerId


class _Left(Record, frozen=True):
    forgotten: int = 0


class _AllServed(Record, frozen=True):
    models: tuple[Served, ...] = ()


class _Error(Record, frozen=True):
    message: str = ""
    code: str | None = None
    param: str | None = None
    hint: str = ""


class _Envelope(Record, frozen=True):
    error: _Error | None = None


class _Delta(Record, frozen=True):
    content: str | None = None


class _Choice(Record, frozen=True):
    delta: _Delta = _Delta()


class _Chunk(Record, frozen=True):
    choices: tuple[_Choice, ...] = ()


class Client:
    """One connection's worth of questions to a node; made by :func:`open_client`."""

    def __init__(self, http: httpx2.Client, home: Path) -> None:
        self._http = http
        self._home = home

    def status(self) -> Status:
        """What the node is and does."""
        return self._decode(self.status_json(), Status)

    def status_json(self) -> bytes:
        """``/api/status`` as the node wrote it."""
        return self._ask("GET", "/api/status")

    def models(self) -> tuple[Model, ...]:
        """The models the node holds, loaded or not, and those that only its peers serve."""
        return self._decode(self._ask("GET", "/api/models"), _Models).models

    def scan(self) -> tuple[Model, ...]:
        """Look for models that other programs on this machine hold; those found new, nothing copied."""
        return self._decode(self._ask("POST", "/api/models/scan", {}, timeout_s=SILENCE_S), _Models).models

    def add(self, path: Path, *, name: str | None = None) -> Model:
        """Refer to a GGUF file where it lies. Raises ModelFileRefused or SourceFailed."""
        body = {"path": str(path.absolute())} | ({"name": name} if name else {})
        return self._decode(self._ask("POST", "/api/models/add", body, timeout_s=SILENCE_S), _OneModel).model

    def remove(self, model: str) -> ModelId:
        """Forget a model, and delete its file if it lies in the home; its whole name. Raises ModelNotFound."""
        return self._decode(self._ask("DELETE", _path_of(model)), _Removed).id

    def fit(self, model: str, context: int = 0) -> Outlook:
        """Whether a model would run there, and how; ``context`` in tokens, 0: the node's. Raises ModelNotFound."""
        return self._decode(self._ask("GET", f"{_path_of(model)}/fit?context={context}"), Outlook)

    def load(self, model: str) -> Model:
        """Bring a model into memory; returns when it is there. Raises ModelFailed."""
        answer = self._ask("POST", f"{_path_of(model)}/load", {}, timeout_s=SILENCE_S)
        return self._decode(answer, _OneModel).model

    def unload(self, model: str) -> Model:
        """Take a model out of memory. Raises Conflict while it answers."""
        return self._decode(self._ask("POST", f"{_path_of(model)}/unload", {}), _OneModel).model

    def stop(self) -> None:
        """Ask the node to stop; it then ends its answers within its deadline."""
        self._ask("POST", "/api/stop", {})

    def pull(self, source: str) -> Generator[PullProgress, None, None]:
        """Fetch a model (``default``, a URL, a file, ``hf:owner/repo:quant``), telling how far it is.

        Closing the iterator breaks off; the next pull goes on from there. Raises SourceFailed, DiskFull …
        """
        for line in self._lines("/api/models/pull", {"source": source}):
            if line:
                self._raise_if_error(line)
                yield self._decode(line, PullProgress)

    def chat(self, messages: Iterable[Message], *, model: str | None = None) -> Generator[str, None, None]:
        """The answer to a conversation of text messages, piece by piece. Closing the iterator stops it.

        ``model`` ``None`` is the node's default.
        """
        turns = [{"role": message.role.value, "content": _text_of(message)} for message in messages]
        body = {"messages": turns, "stream": True} | ({"model": model} if model else {})
        for line in self._lines("/v1/chat/completions", body):
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            if data and line.startswith(b"data:"):
                self._raise_if_error(data)
                for choice in self._decode(data, _Chunk).choices:
                    if choice.delta.content:
                        yield choice.delta.content

    def history(self) -> History:
        """How much the node keeps of what was asked and answered."""
        return self._decode(self._ask("GET", "/api/history"), History)

    def clear_history(self) -> History:
        """Forget all of it, everybody's; gives what there was."""
        return self._decode(self._ask("DELETE", "/api/history"), History)

    # --- the mesh ---------------------------------------------------------------------------------

    def peers(self) -> tuple[Peer, ...]:
        """Peers that are connected or whose offers are known."""
        return self._decode(self._ask("GET", "/api/peers"), _Peers).peers

    def credits(self) -> Credits:
        """What the node earned and spent."""
        return self._decode(self.credits_json(), Credits)

    def credits_json(self) -> bytes:
        """``/api/credits`` as the node wrote it."""
        return self._ask("GET", "/api/credits")

    def join(self, address: str) -> PeerId:
        """Connect to ``…/p2p/<id>``, now and at each start. Raises InvalidField or Unreachable."""
        answer = self._ask("POST", "/api/mesh/join", {"address": address}, timeout_s=JOIN_TIMEOUT_S)
        return self._decode(answer, _Joined).peer

    def leave(self) -> int:
        """Forget every peer, and let strangers in no more; how many addresses were forgotten."""
        return self._decode(self._ask("POST", "/api/mesh/leave", {}), _Left).forgotten

    def served(self) -> tuple[Served, ...]:
        """The node's models, and whether strangers may use each."""
        return self._decode(self._ask("GET", "/api/mesh/served"), _AllServed).models

    def serve(self, model: str, on: bool) -> Served:
        """Let strangers use a model from now on, or no more. Raises ModelNotFound."""
        return self._decode(self._ask("POST", "/api/mesh/serve", {"model": model, "on": on}), Served)

    # --- the road ---------------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> bytes:
        with _translated(self._home):
            answer = self._http.request(method, path, json=body, timeout=httpx2.Timeout(TIMEOUT_S, read=timeout_s))
        if answer.status_code >= 400:
            raise_envelope(answer.content, answer.status_code)
        return answer.content

    def _lines(self, path: str, body: Mapping[str, object]) -> Iterator[bytes]:
        timeout = httpx2.Timeout(TIMEOUT_S, read=SILENCE_S)
        with _translated(self._home), self._http.stream("POST", path, json=body, timeout=timeout) as answer:
            if answer.status_code >= 400:
                raise_envelope(answer.read(), answer.status_code)
            yield from _split(answer.iter_raw())

    def _raise_if_error(self, line: bytes) -> None:
        if b'"error"' in line and (error := self._decode(line, _Envelope).error) is not None:
            _raise(error, 500)

    def _decode(self, data: bytes, kind: type[R]) -> R:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise InternalFault(
                f"The node's answer is not what this version understands ({error}).",
                hint="Are node and command line of one version? Restart the node: meshnode stop, then meshnode up.",
            )


@contextlib.contextmanager
def open_client(home: Path) -> Iterator[Client]:
    """A client of the node that runs on ``home``. Raises NodeNotRunning when nothing listens on its socket."""
    _knock(home)
    transport = httpx2.HTTPTransport(uds=str(home / CONTROL_SOCKET), verify=False)
    with httpx2.Client(transport=transport, base_url="http://localhost", trust_env=False) as http:
        yield Client(http, home)


def _knock(home: Path) -> None:
    """Connect and hang up: the socket's own errors tell an absent node from a forbidden one."""
    path = home / CONTROL_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(KNOCK_TIMEOUT_S)
        try:
            knock.connect(str(path))
        except PermissionError:
            raise Forbidden(f"{path} belongs to another user.", hint="Run this as that user.")
        except (TimeoutError, BlockingIOError):
            raise DeadlineExceeded(f"The node on {home} does not answer.", hint="Look at its log, or kill it.")
        except OSError as error:
            raise _not_running(home) from error


def _not_running(home: Path) -> NodeNotRunning:
    return NodeNotRunning(f"No node is running on {home}.", hint=f"Start one: {start_command(home)}")


def start_command(home: Path) -> str:
    """The command line that starts a node on ``home``."""
    return "meshnode up" if home == Path.home() / ".meshnode" else f"meshnode up --home {home}"


def _path_of(model: str) -> str:
    """Where the API has the model of this name. Raises ModelNotFound for what no path can hold."""
    if model.strip() in ("", ".", "..") or len(model) > LONGEST_NAME:
        raise ModelNotFound(f"No model can have the name {model[:48]!r}.", hint="`meshnode models` lists them.")
    return f"/api/models/{quote(model, safe=':')}"


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        yield from (line.rstrip(b"\r") for line in lines)
        if len(held) > LONGEST_LINE:
            raise InternalFault(f"The node sent a line of more than {LONGEST_LINE} bytes.")
    if held:
        yield held


# --- errors ---------------------------------------------------------------------------------------


def raise_envelope(body: bytes, status: int) -> NoReturn:
    """Raise what an HTTP error body says, as the class of :mod:`meshnode.errors` that its code names."""
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except msgspec.DecodeError:
        error = None
    _raise(error or _Error(message=f"The node answered with HTTP {status} and no explanation."), status)


def _raise(error: _Error, status: int) -> NoReturn:
    fallback = RequestError if 400 <= status < 500 else ServingError
    kind = kind_of(error.code or "") or fallback
    raise kind(error.message, hint=error.hint, param=error.param)


@contextlib.contextmanager
def _translated(home: Path) -> Iterator[None]:
    try:
        yield
    except httpx2.ConnectError as error:
        raise _not_running(home) from error
    except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
        raise NodeNotRunning(
            f"The node on {home} ended before it had answered.", hint=f"Start it again: {start_command(home)}"
        ) from error
    except httpx2.TimeoutException as error:
        raise DeadlineExceeded(
            f"The node on {home} did not answer in time.", hint="Look at its log; `meshnode status` asks again."
        ) from error
