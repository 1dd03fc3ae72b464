"""``POST /v1/responses``: events of one answer as OpenAI's stream of events or its object. Pure.

Item ids are made of the response's id and the item's place, so that they are the same in the stream, in the object and
whenever a kept answer is had again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from meshnode.api.answer_headers import account
from meshnode.api.errors import told
from meshnode.api.render import NOTHING, Heading, timings
from meshnode.api.responses.output import Body, CallItem, CustomCallItem, Emit, Item, MessageItem, ReasoningItem
from meshnode.api.responses.shape import fault, usage
from meshnode.domain import FinishReason
from meshnode.errors import Cancelled, Draining, MeshnodeError, ProtocolViolation
from meshnode.events import (
    WAITS,
    ChoiceFinished,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    error_of,
)

PREFIX: Final = "resp_"
"""How a response's id begins."""
_INCOMPLETE: Final = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}


class ResponseRenderer:
    """One response. Its echo has ``response`` (what the object repeats), ``calls`` and ``encrypted``."""

    def __init__(self, heading: Heading, *, include_usage: bool = True, echo: Mapping[str, Any] = NOTHING) -> None:
        self._heading = heading
        self._shown: Mapping[str, Any] = echo.get("response", {})
        self._calls: Mapping[str, Any] = echo.get("calls", {})
        self._encrypted = echo.get("encrypted") is True
        self._background = self._shown.get("background") is True
        self._stage = 0
        self._status = "queued" if self._background else "in_progress"
        self._told: list[Body] = []
        self._sequence = 0
        self._output: list[Body] = []
        self._open: Item | None = None
        self._index = -1
        self._call = -1
        self._reason: str | None = None
        self._error: Body | None = None
        self._finished: Finished | None = None

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The events of a stream for these of the answer."""
        for event in events:
            self._begin(event)
            self._take(event)
        told, self._told = self._told, []
        return told

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """The last events of a stream that an error ends: what was begun is closed, then the response.

        A response in the background goes on when the node is back: only its stream ends.
        """
        if self._background and isinstance(error, Draining):
            return [self._broken(error)]
        self._begin(None)
        self._fail(error)
        told, self._told = self._told, []
        return told

    def collect(self, event: Event) -> None:
        """Take one event of a one-shot answer."""
        self.chunks([event])

    def whole(self) -> dict[str, Any]:
        """The response as it is."""
        return self._response()

    def _begin(self, event: Event | None) -> None:
        """What is told before the first item; of one in the background, in two steps."""
        if self._stage == 0:
            self._stage = 1
            self._lifecycle("created")
            if self._background:
                self._lifecycle("queued")
        if self._stage == 1 and not (self._background and isinstance(event, WAITS)):
            self._stage = 2
            self._status = "in_progress"
            self._lifecycle("in_progress")

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(text=text, logprobs=logprobs, choice=0) if text or logprobs:
                self._message().say(text, logprobs)
            case RefusalDelta(text=text, choice=0) if text:
                self._message().refuse(text)
            case ReasoningDelta(text=text, choice=0) if text:
                self._thought().think(text)
            case ToolCallStarted(choice=0):
                self._begin_call(event)
            case ToolCallDelta(choice=0) if event.arguments:
                self._write(event)
            case ChoiceFinished(choice=0, reason=reason):
                self._finish(reason)
            case Finished():
                self._end(event)
            case Failed():
                self._fail(error_of(event))
            case _:
                pass

    def _message(self) -> MessageItem:
        if not isinstance(self._open, MessageItem):
            self._close("completed")
            self._open = MessageItem(*self._next(MessageItem.prefix))
        return self._open

    def _thought(self) -> ReasoningItem:
        if not isinstance(self._open, ReasoningItem):
            self._close("completed")
            id_, emit = self._next(ReasoningItem.prefix)
            self._open = ReasoningItem(id_, emit, encrypted=self._encrypted)
        return self._open

    def _begin_call(self, event: ToolCallStarted) -> None:
        self._close("completed")
        called = self._calls.get(event.name, {"type": "function", "name": event.name})
        self._call = event.index
        if called["type"] == "custom":
            self._open = CustomCallItem(*self._next(CustomCallItem.prefix), event.id, called)
        else:
            self._open = CallItem(*self._next(CallItem.prefix), event.id, called)

    def _write(self, event: ToolCallDelta) -> None:
        if event.index != self._call or not isinstance(self._open, CallItem | CustomCallItem):
            raise ProtocolViolation("arguments came for a call that was done already.")
        self._open.write(event.arguments)

    def _finish(self, reason: FinishReason) -> None:
        self._reason = _INCOMPLETE.get(reason)
        if self._index < 0:
            self._message()
        self._close("completed" if self._reason is None else "incomplete")

    def _end(self, finished: Finished) -> None:
        self._finished = finished
        self._close("completed")
        self._status = "completed" if self._reason is None else "incomplete"
        self._lifecycle(self._status)

    def _fail(self, error: MeshnodeError) -> None:
        """OpenAI's streams know no event for a response that was cancelled: its status says so."""
        self._close("incomplete")
        self._status = "cancelled" if isinstance(error, Cancelled) else "failed"
        self._error = fault(error)
        self._lifecycle("failed")

    def _broken(self, error: MeshnodeError) -> dict[str, Any]:
        """The last event of a stream that ends before its response does."""
        head = {"type": "error", "sequence_number": self._sequence}
        return head | {"code": error.code, "message": told(error), "param": error.param}

    def _next(self, prefix: str) -> tuple[str, Emit]:
        """The id of the item that begins now, and how it tells of itself."""
        self._index += 1
        id_ = f"{prefix}{self._heading.id.removeprefix(PREFIX)}_{self._index}"
        return id_, partial(self._item_told, self._index, id_)

    def _close(self, status: str) -> None:
        if self._open is not None:
            self._output.append(self._open.close(status))
            self._open = None

    def _item_told(self, index: int, id_: str, kind: str, fields: Body) -> None:
        which = {} if "item" in fields else {"item_id": id_}
        self._tell(kind, {"output_index": index, **which, **fields})

    def _lifecycle(self, what: str) -> None:
        self._tell(f"response.{what}", {"response": self._response()})

    def _tell(self, kind: str, fields: Body) -> None:
        self._told.append({"type": kind, "sequence_number": self._sequence} | fields)
        self._sequence += 1

    def _response(self) -> Body:
        heading, finished = self._heading, self._finished
        growing = [] if self._open is None else [self._open.snapshot("in_progress")]
        return {
            "id": heading.id,
            "object": "response",
            "created_at": heading.created,
            "status": self._status,
            "completed_at": self._completed_at(),
            "error": self._error,
            "incomplete_details": {"reason": self._reason} if self._status == "incomplete" else None,
            "model": heading.model,
            "output": [*self._output, *growing],
            **self._shown,
            "usage": None if finished is None else usage(finished.usage),
            **({} if finished is None else {"timings": timings(finished), **account(finished)}),
        }

    def _completed_at(self) -> int | None:
        """When it was complete: what its computing took, after it was created."""
        if self._finished is None or self._status != "completed":
            return None
        times = self._finished.timings
        return self._heading.created + round((times.queue_ms + times.prompt_ms + times.predicted_ms) / 1000)


class Later:
    """A renderer of a stream that a client takes up again: what it has seen, up to number ``after``, is left out."""

    def __init__(self, renderer: ResponseRenderer, after: int) -> None:
        self._renderer = renderer
        self._after = after

    def chunks(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The events of a stream for these of the answer, as far as they are new."""
        return self._new(self._renderer.chunks(events))

    def failed(self, error: MeshnodeError) -> list[dict[str, Any]]:
        """The last events of a stream that an error ends."""
        return self._new(self._renderer.failed(error))

    def collect(self, event: Event) -> None:
        """Take one event of a one-shot answer."""
        self._renderer.collect(event)

    def whole(self) -> dict[str, Any]:
        """The response as it is."""
        return self._renderer.whole()

    def _new(self, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in told if one["sequence_number"] > self._after]
