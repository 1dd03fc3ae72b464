"""``POST /v1/messages``: events of one answer as Anthropic's stream or its one-shot message. Pure.

Source: Anthropic's API reference, "Streaming Messages": ``message_start``, then blocks one after the other, each with
its start, deltas and stop, then ``message_delta`` with the reason and all counts, and ``message_stop``. Beyond it an
answer has ``mesh`` where there is something to note or to pay, and ``timings`` (llama.cpp's).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from meshnode.api import errors
from meshnode.api.messages.blocks import sign
from meshnode.api.messages.unfinished import input_of
from meshnode.api.render import NOTHING, Heading, timings
from meshnode.domain import FinishReason
from meshnode.errors import MeshnodeError, ProtocolViolation
from meshnode.events import (
    ChoiceFinished,
    Event,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)

Chunk = dict[str, Any]
_REASONS: Final[Mapping[FinishReason, str]] = {
    FinishReason.STOP: "end_turn",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}


class Block:
    """A content block as it grows; ``call`` is its tool call's number."""

    def __init__(self, kind: str, *, call: int = -1, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.call = call
        self.call_id = call_id
        self.name = name
        self.pieces: list[str] = []

    @property
    def text(self) -> str:
        """All that was said in it."""
        return "".join(self.pieces)


class Wish(NamedTuple):
    """What the request said of its answer (the parser's echo)."""

    max_tokens: int
    stop_sequences: Sequence[str]
    omitted: bool
    edits: bool
    notes: Sequence[str]

    @classmethod
    def of(cls, echo: Mapping[str, Any]) -> Wish:
        """Out of an echo, which may lack any of them."""
        return cls(
            max_tokens=int(echo.get("max_tokens", 1)),
            stop_sequences=tuple(echo.get("stop_sequences", ())),
            omitted=bool(echo.get("omitted")),
            edits=bool(echo.get("edits")),
            notes=tuple(echo.get("notes", ())),
        )


class MessagesRenderer:
    """One message. Its usage is always told; ``max_tokens`` 0 leaves nothing to tell but the counts."""

    def __init__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._wish = Wish.of(echo)
        self._blocks: list[Block] = []
        self._open = False
        self._started: Started | None = None
        self._begun = False
        self._refused = False
        self._ended = ChoiceFinished(FinishReason.STOP)
        self._finished = Finished(Usage())

    def chunks(self, events: Sequence[Event]) -> list[Chunk]:
        """Events of a stream for these of the answer. Raises ProtocolViolation where calls are mixed up."""
        return [chunk for event in events for chunk in self._chunk(event)]

    def failed(self, error: MeshnodeError) -> list[Chunk]:
        """The last event of a stream that an error ends."""
        return [errors.anthropic(error)]

    def collect(self, event: Event) -> None:
        """Take one event of a one-shot answer."""
        for _ in self._chunk(event):
            pass

    def whole(self) -> Chunk:
        """The one-shot answer."""
        reason, stop = self._reason()
        return {
            **self._message([self._shown(block) for block in self._blocks], reason, stop, self._usage()),
            "timings": timings(self._finished),
        }

    def _chunk(self, event: Event) -> Iterator[Chunk]:
        if getattr(event, "choice", 0):
            return  # a message is one answer
        match event:
            case Started():
                self._started = self._started or event
                yield from self._start()
            case ReasoningDelta(text=text):
                yield from self._said("thinking", text)
            case TextDelta(text=text):
                yield from self._said("text", text)
            case RefusalDelta(text=text):
                self._refused = True
                yield from self._said("text", text)
            case ToolCallStarted():
                yield from self._begin(Block("tool_use", call=event.index, call_id=event.id, name=event.name))
            case ToolCallDelta(index=index, arguments=arguments):
                yield from self._argued(index, arguments)
            case ChoiceFinished():
                self._ended = event
            case Finished():
                self._finished = event
                yield from self._start()
                yield from self._stop()
                yield from self._end()
            case _:
                pass

    def _start(self) -> Iterator[Chunk]:
        if not self._begun:
            self._begun = True
            yield {"type": "message_start", "message": self._message([], None, None, self._first_usage())}

    def _said(self, kind: str, text: str) -> Iterator[Chunk]:
        if not text:
            return
        if not self._open or self._blocks[-1].kind != kind:
            yield from self._begin(Block(kind))
        yield from self._more(text)

    def _argued(self, index: int, arguments: str) -> Iterator[Chunk]:
        if self._wish.max_tokens == 0:
            return
        if not self._open or self._blocks[-1].call != index:
            raise ProtocolViolation("the answer's tool calls are mixed up.")
        yield from self._more(arguments)

    def _begin(self, block: Block) -> Iterator[Chunk]:
        if self._wish.max_tokens == 0:
            return
        yield from self._start()
        yield from self._stop()
        self._blocks.append(block)
        self._open = True
        empty: Mapping[str, Chunk] = {
            "text": {"type": "text", "text": ""},
            "thinking": {"type": "thinking", "thinking": "", "signature": ""},
            "tool_use": {"type": "tool_use", "id": block.call_id, "name": block.name, "input": {}},
        }
        yield self._of_block("content_block_start", {"content_block": empty[block.kind]})

    def _more(self, text: str) -> Iterator[Chunk]:
        if not self._open:
            return
        block = self._blocks[-1]
        block.pieces.append(text)
        delta: Chunk
        match block.kind:
            case "tool_use":
                delta = {"type": "input_json_delta", "partial_json": text}
            case "thinking":
                delta = {"type": "thinking_delta", "thinking": text}
            case _:
                delta = {"type": "text_delta", "text": text}
        if not (block.kind == "thinking" and self._wish.omitted):
            yield self._of_block("content_block_delta", {"delta": delta})

    def _stop(self) -> Iterator[Chunk]:
        if not self._open:
            return
        block = self._blocks[-1]
        if block.kind == "thinking":
            signature = sign(block.text, omitted=self._wish.omitted)
            delta = {"type": "signature_delta", "signature": signature}
            yield self._of_block("content_block_delta", {"delta": delta})
        yield self._of_block("content_block_stop", {})
        self._open = False

    def _end(self) -> Iterator[Chunk]:
        reason, stop = self._reason()
        delta = {"stop_reason": reason, "stop_sequence": stop, "stop_details": _details(reason)}
        edits = self._edits()
        usage = _counts(self._finished.usage)
        beside = {**edits, **_mesh(_charged(self._finished)), "timings": timings(self._finished)}
        yield {"type": "message_delta", "delta": delta, "usage": usage, **beside}
        yield {"type": "message_stop"}

    def _of_block(self, kind: str, more: Chunk) -> Chunk:
        return {"type": kind, "index": len(self._blocks) - 1, **more}

    def _reason(self) -> tuple[str, str | None]:
        """``stop_reason`` and ``stop_sequence``; an answer cut short of its ``max_tokens`` has filled the context."""
        ended, wish = self._ended, self._wish
        if self._refused:
            return "refusal", None
        if wish.max_tokens == 0:
            return "max_tokens", None
        if ended.reason is FinishReason.LENGTH:
            full = self._finished.usage.completion_tokens < wish.max_tokens
            return ("model_context_window_exceeded" if full else "max_tokens"), None
        if ended.reason is FinishReason.STOP and ended.stop is not None and ended.stop in wish.stop_sequences:
            return "stop_sequence", ended.stop
        return _REASONS[ended.reason], None

    def _shown(self, block: Block) -> Chunk:
        match block.kind:
            case "tool_use":
                return {"type": "tool_use", "id": block.call_id, "name": block.name, "input": input_of(block.text)}
            case "thinking":
                omitted = self._wish.omitted
                thought = "" if omitted else block.text
                return {"type": "thinking", "thinking": thought, "signature": sign(block.text, omitted=omitted)}
            case _:
                return {"type": "text", "text": block.text}

    def _message(self, content: list[Chunk], reason: str | None, stop: str | None, usage: Chunk) -> Chunk:
        edits = self._edits()
        notes = {"notes": list(self._wish.notes)} if self._wish.notes else {}
        return {
            "id": self._heading.id,
            "type": "message",
            "role": "assistant",
            "model": self._heading.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop,
            "stop_details": _details(reason),
            "usage": usage,
            **edits,
            **_mesh({**notes, **_charged(self._finished)}),
        }

    def _edits(self) -> Chunk:
        """What was edited of the conversation, where that was wished for: nothing."""
        return {"context_management": {"applied_edits": []}} if self._wish.edits else {}

    def _first_usage(self) -> Chunk:
        started = self._started or Started(0)
        return _whole_usage(Usage(prompt_tokens=started.prompt_tokens, cached_tokens=started.cached_tokens))

    def _usage(self) -> Chunk:
        return _whole_usage(self._finished.usage)


def _charged(finished: Finished) -> Chunk:
    """What a peer's answer cost, in micro-credits, and the receipt for it; nothing where nobody was paid."""
    charge = finished.charge
    return {} if charge is None else {"receipt": charge.receipt, "cost": charge.cost_uc}


def _mesh(beside: Chunk) -> Chunk:
    return {"mesh": beside} if beside else {}


def _details(reason: str | None) -> Chunk | None:
    return {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None


def _counts(usage: Usage) -> Chunk:
    """Counts so far: what was read anew, and what was found in the cache, are the prompt together."""
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _whole_usage(usage: Usage) -> Chunk:
    kept = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
    return {**_counts(usage), "cache_creation": kept, "server_tool_use": None, "service_tier": "standard"}
