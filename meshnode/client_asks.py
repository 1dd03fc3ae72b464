"""What can be asked of a node, and how each answer is read, without a connection: shared by both clients. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from meshnode.client_answers import (
    Catalog,
    Comparison,
    Explanation,
    Health,
    JobStatus,
    Piece,
    Ranked,
    Receipt,
    Template,
    TemplateHead,
)
from meshnode.client_reading import Ask, Flow, as_record, checked, field, listed, nothing
from meshnode.client_records import Credits, History, Model, Outlook, Peer, PullProgress, Served, Status
from meshnode.domain import Message, ModelId, PeerId, Record, TextPart
from meshnode.errors import ModelNotFound, NotFound

SILENCE_S: Final = 900.0
"""How long a streamed answer may pause: a large model may be loading before its first word."""
JOIN_TIMEOUT_S: Final = 120.0
"""How long joining may take: a peer is dialled at each of its addresses in turn."""
LONGEST_NAME: Final = 256
"""Characters of a model's name, as in a request."""


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
    return Ask("GET", "/api/models", listed("models", Model))


def scan() -> Ask[tuple[Model, ...]]:
    """Look for models that other programs on the machine hold; those found new, nothing copied."""
    return Ask("POST", "/api/models/scan", listed("models", Model), {}, SILENCE_S)


def add(path: Path, name: str | None = None) -> Ask[Model]:
    """Refer to a GGUF file where it lies."""
    body = {"path": str(path.absolute())} | ({"name": name} if name else {})
    return Ask("POST", "/api/models/add", field("model", Model), body, SILENCE_S)


def remove(model: str) -> Ask[ModelId]:
    """Forget a model, and delete its file if it lies in the home."""
    return Ask("DELETE", path_of(model), field("id", ModelId))


def fit(model: str, context: int = 0) -> Ask[Outlook]:
    """Whether a model would run there, and how."""
    return Ask("GET", f"{path_of(model)}/fit?{urlencode({'context': context})}", as_record(Outlook))


def load(model: str) -> Ask[Model]:
    """Bring a model into memory."""
    return Ask("POST", f"{path_of(model)}/load", field("model", Model), {}, SILENCE_S)


def unload(model: str) -> Ask[Model]:
    """Take a model out of memory."""
    return Ask("POST", f"{path_of(model)}/unload", field("model", Model), {})


def stop() -> Ask[None]:
    """Ask the node to stop."""
    return Ask("POST", "/api/stop", nothing, {})


def pull(source: str) -> Flow[PullProgress]:
    """Fetch a model."""
    return Flow("/api/models/pull", {"source": source}, lambda line: [as_record(PullProgress)(checked(line))])


def chat(messages: Iterable[Message], model: str | None = None) -> Flow[str]:
    """The answer to a conversation of text messages, piece by piece."""
    turns = [{"role": message.role.value, "content": _text_of(message)} for message in messages]
    body = {"messages": turns, "stream": True} | ({"model": model} if model else {})
    return Flow("/v1/chat/completions", body, _chunk)


# --- prompts ---------------------------------------------------------------------------------------


def tokenize(text: str, model: str | None = None) -> Ask[tuple[int, ...]]:
    """The token ids of a text."""
    return Ask("POST", "/v1/tokenize", field("tokens", tuple[int, ...]), _for(model, content=text), SILENCE_S)


def pieces(text: str, model: str | None = None) -> Ask[tuple[Piece, ...]]:
    """The tokens of a text with what each stands for."""
    body = _for(model, content=text, with_pieces=True)
    return Ask("POST", "/v1/tokenize", listed("tokens", Piece), body, SILENCE_S)


def detokenize(tokens: Iterable[int], model: str | None = None) -> Ask[str]:
    """The text of token ids."""
    return Ask("POST", "/v1/detokenize", field("content", str), _for(model, tokens=list(tokens)), SILENCE_S)


def apply_template(messages: Iterable[Mapping[str, Any]], model: str | None = None) -> Ask[str]:
    """The text that a conversation, as chat completions takes it, is to a model."""
    return Ask("POST", "/v1/apply-template", field("prompt", str), _for(model, messages=list(messages)), SILENCE_S)


def templates() -> Ask[tuple[TemplateHead, ...]]:
    """The stored prompts, each by its newest version."""
    return Ask("GET", "/api/templates", listed("templates", TemplateHead))


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
    return Ask("DELETE", _piece_of("/api/templates", name), field("versions", int))


def history() -> Ask[History]:
    """How much the node keeps of what was asked and answered."""
    return Ask("GET", "/api/history", as_record(History))


def clear_history() -> Ask[History]:
    """Forget all of it, everybody's."""
    return Ask("DELETE", "/api/history", as_record(History))


# --- comparing, ranking, later -----------------------------------------------------------------------


def compare(models: Iterable[str], messages: Iterable[Mapping[str, Any]], **fields: Any) -> Ask[Comparison]:
    """One prompt to several models at a time."""
    body = {"models": list(models), "messages": list(messages), **fields}
    return Ask("POST", "/v1/chat/compare", as_record(Comparison), body, SILENCE_S)


def rerank(
    query: str, documents: Iterable[str], model: str | None = None, top_n: int | None = None
) -> Ask[tuple[Ranked, ...]]:
    """Documents by how well they answer a question."""
    body = _for(model, query=query, documents=list(documents)) | ({} if top_n is None else {"top_n": top_n})
    return Ask("POST", "/v1/rerank", listed("results", Ranked), body, SILENCE_S)


def jobs(after: str | None = None) -> Ask[tuple[JobStatus, ...]]:
    """The caller's jobs, newest first, a page of them."""
    query = "" if after is None else f"?{urlencode({'after': after})}"
    return Ask("GET", f"/v1/jobs{query}", listed("data", JobStatus))


def job(id_: str) -> Ask[JobStatus]:
    """A job, with its answer once it is over."""
    return Ask("GET", _piece_of("/v1/jobs", id_), as_record(JobStatus))


def cancel_job(id_: str) -> Ask[JobStatus]:
    """Stop a job."""
    return Ask("POST", f"{_piece_of('/v1/jobs', id_)}/cancel", as_record(JobStatus), {})


def delete_job(id_: str) -> Ask[None]:
    """Stop and forget a job."""
    return Ask("DELETE", _piece_of("/v1/jobs", id_), nothing)


# --- the mesh --------------------------------------------------------------------------------------


def peers() -> Ask[tuple[Peer, ...]]:
    """Peers that are connected or whose offers are known."""
    return Ask("GET", "/api/peers", listed("peers", Peer))


def credits_() -> Ask[Credits]:
    """What the node earned and spent."""
    return Ask("GET", "/api/credits", as_record(Credits))


def catalog() -> Ask[Catalog]:
    """What can be asked of the node now, here and in its mesh."""
    return Ask("GET", "/api/catalog", as_record(Catalog))


def receipt(id_: str) -> Ask[Receipt]:
    """What one answer of a peer cost."""
    return Ask("GET", _piece_of("/api/receipts", id_), as_record(Receipt))


def explain(request: Mapping[str, Any]) -> Ask[Explanation]:
    """Who would answer the body of a chat, a completion or an embedding, and why not others."""
    return Ask("POST", "/api/explain", as_record(Explanation), dict(request))


def join(address: str) -> Ask[PeerId]:
    """Connect to ``…/p2p/<id>``, now and at each start."""
    return Ask("POST", "/api/mesh/join", field("peer", PeerId), {"address": address}, JOIN_TIMEOUT_S)


def leave() -> Ask[int]:
    """Forget every peer, and let strangers in no more; how many addresses were forgotten."""
    return Ask("POST", "/api/mesh/leave", field("forgotten", int), {})


def served() -> Ask[tuple[Served, ...]]:
    """The node's models, and whether strangers may use each."""
    return Ask("GET", "/api/mesh/served", listed("models", Served))


def serve(model: str, on: bool) -> Ask[Served]:
    """Let strangers use a model from now on, or no more."""
    return Ask("POST", "/api/mesh/serve", as_record(Served), {"model": model, "on": on})


# --- places and bodies -----------------------------------------------------------------------------


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


def _for(model: str | None, **fields: Any) -> dict[str, Any]:
    return fields | ({"model": model} if model else {})


def _chunk(line: bytes) -> list[str] | None:
    """The text of one event of a chat stream; ``None`` at its end."""
    if not line.startswith(b"data:"):
        return []
    data = line.removeprefix(b"data:").strip()
    if data == b"[DONE]":
        return None
    if not data:
        return []
    choices = as_record(_Chunk)(checked(data)).choices
    return [choice.delta.content for choice in choices if choice.delta.content]


def _text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, TextPart))


class _Delta(Record, frozen=True):
    content: str | None = None


class _Choice(Record, frozen=True):
    delta: _Delta = _Delta()


class _Chunk(Record, frozen=True):
    choices: tuple[_Choice, ...] = ()
