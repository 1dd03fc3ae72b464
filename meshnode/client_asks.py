"""What can be asked of a node and how its answers are read, without a connection: shared by both clients. Pure.

An :class:`Ask` is one question and its answer, a :class:`Flow` one whose answer comes piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from meshnode.client_records import (
    Credits,
    Health,
    History,
    Model,
    Outlook,
    Peer,
    Piece,
    PullProgress,
    Served,
    Status,
    Template,
    TemplateHead,
)
from meshnode.domain import Message, ModelId, PeerId, Record, TextPart
from meshnode.errors import InternalFault, ModelNotFound, NotFound, RequestError, ServingError
from meshnode.events import kind_of

TIMEOUT_S: Final = 30.0
SILENCE_S: Final = 900.0
"""How long a streamed answer may pause: a large model may be loading before its first word."""
JOIN_TIMEOUT_S: Final = 120.0
"""How long joining may take: a peer is dialled at each of its addresses in turn."""
LONGEST_LINE: Final = 16 << 20
LONGEST_NAME: Final = 256
"""Characters of a model's name, as in a request."""

R = TypeVar("R")
K = TypeVar("K", bound=Record)


class Ask(NamedTuple, Generic[R]):
    """One question. ``read`` makes the answer of the body; statuses from 400 on are errors, but for ``also``."""

    method: str
    path: str
    read: Callable[[bytes], R]
    body: Mapping[str, Any] | None = None
    timeout_s: float = TIMEOUT_S
    also: tuple[int, ...] = ()


class Flow(NamedTuple, Generic[R]):
    """One question whose answer comes in lines; ``read`` gives what a line holds, or ``None`` of the last."""

    path: str
    body: Mapping[str, Any]
    read: Callable[[bytes], Sequence[R] | None]


class Lines(Generic[R]):
    """Bytes of a :class:`Flow` in, what they hold out; ``over`` once the last line was read."""

    def __init__(self, read: Callable[[bytes], Sequence[R] | None]) -> None:
        self._read = read
        self._held = b""
        self.over = False

    def feed(self, piece: bytes) -> Iterator[R]:
        """What is whole now. Raises what a line says went wrong, after all that came before it."""
        *lines, self._held = (self._held + piece).split(b"\n")
        for line in lines:
            yield from self._line(line)
        if len(self._held) > LONGEST_LINE:
            raise InternalFault(f"The node sent a line of more than {LONGEST_LINE} bytes.")

    def end(self) -> Iterator[R]:
        """What was left without a line's end."""
        held, self._held = self._held, b""
        yield from self._line(held)

    def _line(self, line: bytes) -> Iterator[R]:
        if self.over or not line.strip():
            return
        found = self._read(line.rstrip(b"\r"))
        self.over = found is None
        yield from found or ()


# --- the node and its models -----------------------------------------------------------------------


def status() -> Ask[Status]:
    """What the node is and does."""
    return Ask("GET", "/api/status", as_record(Status))


def health() -> Ask[Health]:
    """Whether a model can answer."""
    return Ask("GET", "/health", as_record(Health), also=(503,))


def metrics() -> Ask[str]:
    """Prometheus' text."""
    return Ask("GET", "/metrics", bytes.decode)


def raw(ask: Ask[Any]) -> Ask[bytes]:
    """The same question; the answer as the node wrote it."""
    return Ask(ask.method, ask.path, bytes, ask.body, ask.timeout_s, ask.also)


def models() -> Ask[tuple[Model, ...]]:
    """The models the node holds, loaded or not, and those that only its peers serve."""
    return Ask("GET", "/api/models", _all("models", Model))


def scan() -> Ask[tuple[Model, ...]]:
    """Look for models that other programs on the machine hold; those found new, nothing copied."""
    return Ask("POST", "/api/models/scan", _all("models", Model), {}, SILENCE_S)


def add(path: Path, name: str | None = None) -> Ask[Model]:
    """Refer to a GGUF file where it lies."""
    body = {"path": str(path.absolute())} | ({"name": name} if name else {})
    return Ask("POST", "/api/models/add", _one("model", Model), body, SILENCE_S)


def remove(model: str) -> Ask[ModelId]:
    """Forget a model, and delete its file if it lies in the home."""
    return Ask("DELETE", path_of(model), _value("id", ModelId))


def fit(model: str, context: int = 0) -> Ask[Outlook]:
    """Whether a model would run there, and how."""
    return Ask("GET", f"{path_of(model)}/fit?{urlencode({'context': context})}", as_record(Outlook))


def load(model: str) -> Ask[Model]:
    """Bring a model into memory."""
    return Ask("POST", f"{path_of(model)}/load", _one("model", Model), {}, SILENCE_S)


def unload(model: str) -> Ask[Model]:
    """Take a model out of memory."""
    return Ask("POST", f"{path_of(model)}/unload", _one("model", Model), {})


def stop() -> Ask[None]:
    """Ask the node to stop."""
    return Ask("POST", "/api/stop", _nothing, {})


def pull(source: str) -> Flow[PullProgress]:
    """Fetch a model."""
    return Flow("/api/models/pull", {"source": source}, lambda line: [as_record(PullProgress)(_checked(line))])


def chat(messages: Iterable[Message], model: str | None = None) -> Flow[str]:
    """The answer to a conversation of text messages, piece by piece."""
    turns = [{"role": message.role.value, "content": _text_of(message)} for message in messages]
    body = {"messages": turns, "stream": True} | ({"model": model} if model else {})
    return Flow("/v1/chat/completions", body, _chunk)


# --- prompts ---------------------------------------------------------------------------------------


def tokenize(text: str, model: str | None = None) -> Ask[tuple[int, ...]]:
    """The token ids of a text."""
    return Ask("POST", "/v1/tokenize", _value("tokens", tuple[int, ...]), _for(model, content=text), SILENCE_S)


def pieces(text: str, model: str | None = None) -> Ask[tuple[Piece, ...]]:
    """The tokens of a text with what each stands for."""
    body = _for(model, content=text, with_pieces=True)
    return Ask("POST", "/v1/tokenize", _all("tokens", Piece), body, SILENCE_S)


def detokenize(tokens: Iterable[int], model: str | None = None) -> Ask[str]:
    """The text of token ids."""
    return Ask("POST", "/v1/detokenize", _value("content", str), _for(model, tokens=list(tokens)), SILENCE_S)


def apply_template(messages: Iterable[Mapping[str, Any]], model: str | None = None) -> Ask[str]:
    """The text that a conversation, as chat completions takes it, is to a model."""
    return Ask("POST", "/v1/apply-template", _value("prompt", str), _for(model, messages=list(messages)), SILENCE_S)


def templates() -> Ask[tuple[TemplateHead, ...]]:
    """The stored prompts, each by its newest version."""
    return Ask("GET", "/api/templates", _all("templates", TemplateHead))


def template(name: str, version: int | None = None) -> Ask[Template]:
    """A stored prompt with its text."""
    query = "" if version is None else f"?{urlencode({'version': version})}"
    return Ask("GET", f"{_piece_of('/api/templates', name)}{query}", as_record(Template))


def add_template(name: str, messages: Iterable[Mapping[str, str]]) -> Ask[TemplateHead]:
    """Store a version of a prompt."""
    body = {"messages": [dict(message) for message in messages]}
    return Ask("POST", _piece_of("/api/templates", name), as_record(TemplateHead), body)


def remove_template(name: str) -> Ask[int]:
    """Forget a stored prompt; how many versions it had."""
    return Ask("DELETE", _piece_of("/api/templates", name), _value("versions", int))


def history() -> Ask[History]:
    """How much the node keeps of what was asked and answered."""
    return Ask("GET", "/api/history", as_record(History))


def clear_history() -> Ask[History]:
    """Forget all of it, everybody's."""
    return Ask("DELETE", "/api/history", as_record(History))


# --- the mesh --------------------------------------------------------------------------------------


def peers() -> Ask[tuple[Peer, ...]]:
    """Peers that are connected or whose offers are known."""
    return Ask("GET", "/api/peers", _all("peers", Peer))


def credits_() -> Ask[Credits]:
    """What the node earned and spent."""
    return Ask("GET", "/api/credits", as_record(Credits))


def join(address: str) -> Ask[PeerId]:
    """Connect to ``…/p2p/<id>``, now and at each start."""
    return Ask("POST", "/api/mesh/join", _value("peer", PeerId), {"address": address}, JOIN_TIMEOUT_S)


def leave() -> Ask[int]:
    """Forget every peer, and let strangers in no more; how many addresses were forgotten."""
    return Ask("POST", "/api/mesh/leave", _value("forgotten", int), {})


def served() -> Ask[tuple[Served, ...]]:
    """The node's models, and whether strangers may use each."""
    return Ask("GET", "/api/mesh/served", _all("models", Served))


def serve(model: str, on: bool) -> Ask[Served]:
    """Let strangers use a model from now on, or no more."""
    return Ask("POST", "/api/mesh/serve", as_record(Served), {"model": model, "on": on})


# --- reading ---------------------------------------------------------------------------------------


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


def as_record(kind: type[R]) -> Callable[[bytes], R]:
    """Reads JSON as ``kind``. The reader raises InternalFault for what this version does not understand."""

    def read(data: bytes) -> R:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError as error:
            raise InternalFault(
                f"The node's answer is not what this version understands ({error}).",
                hint="Are node and command line of one version? Restart the node: meshnode stop, then meshnode up.",
            )

    return read


def raise_envelope(body: bytes, status: int) -> NoReturn:
    """Raise what an HTTP error body says, as the class of :mod:`meshnode.errors` that its code names."""
    try:
        error = msgspec.json.decode(body, type=_Envelope).error
    except msgspec.DecodeError:
        error = None
    _raise(error or _Error(message=f"The node answered with HTTP {status} and no explanation."), status)


def path_of(model: str) -> str:
    """Where the API has the model of this name. Raises ModelNotFound for what no path can hold."""
    if model.strip() in ("", ".", "..") or len(model) > LONGEST_NAME:
        raise ModelNotFound(f"No model can have the name {model[:48]!r}.", hint="`meshnode models` lists them.")
    return f"/api/models/{quote(model, safe=':')}"


def _piece_of(path: str, name: str) -> str:
    """Where something of that name is, the name one piece of the path. Raises NotFound for what no path can hold."""
    if name.strip() in ("", ".", "..") or len(name) > LONGEST_NAME:
        raise NotFound(f"Nothing can have the name {name[:48]!r}.")
    return f"{path}/{quote(name, safe='')}"


def _value(name: str, kind: type[R]) -> Callable[[bytes], R]:
    """Reads one field of an object."""
    record = msgspec.defstruct("Answer", [(name, kind)])
    read = as_record(record)

    def value(data: bytes) -> R:
        found: R = getattr(read(data), name)
        return found

    return value


def _one(name: str, kind: type[K]) -> Callable[[bytes], K]:
    return _value(name, kind)


def _all(name: str, kind: type[K]) -> Callable[[bytes], tuple[K, ...]]:
    return _value(name, tuple[kind, ...])  # type: ignore[valid-type]  # mypy takes no variable as a type


def _nothing(data: bytes) -> None:
    return None


def _for(model: str | None, **fields: Any) -> dict[str, Any]:
    return fields | ({"model": model} if model else {})


def _checked(line: bytes) -> bytes:
    """The line. Raises the error that it is, where it is one."""
    if b'"error"' in line and (error := as_record(_Envelope)(line).error) is not None:
        _raise(error, 500)
    return line


def _chunk(line: bytes) -> list[str] | None:
    """The text of one event of a chat stream; ``None`` at its end."""
    if not line.startswith(b"data:"):
        return []
    data = line.removeprefix(b"data:").strip()
    if data == b"[DONE]":
        return None
    if not data:
        return []
    choices = as_record(_Chunk)(_checked(data)).choices
    return [choice.delta.content for choice in choices if choice.delta.content]


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


def _raise(error: _Error, status: int) -> NoReturn:
    fallback = RequestError if 400 <= status < 500 else ServingError
    kind = kind_of(error.code or "") or fallback
    raise kind(error.message, hint=error.hint, param=error.param)
