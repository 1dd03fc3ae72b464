"""The items of a response as they grow, and the events that tell of it. Pure.

Source: OpenAI's API reference, "Streaming events" of Responses. An item is added, its parts are added, grow and are
done, then the item is done; one of another kind begins only when those before it are done.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from meshnode.api.responses.thought import sealed
from meshnode.api.responses.tooling import INPUT
from meshnode.events import TokenLogprob

Body = dict[str, Any]
Emit = Callable[[str, Body], None]
"""Takes the kind of an event and its fields, but for those that say which item it is of."""


class Item(Protocol):
    """One item on its way."""

    def close(self, status: str) -> Body:
        """Tell that it is done, as ``completed`` or ``incomplete``; gives it as it then is."""

    def snapshot(self, status: str) -> Body:
        """The item as it is."""


class MessageItem:
    """A message: parts of text, or of refusal."""

    prefix: ClassVar = "msg_"

    def __init__(self, id_: str, emit: Emit) -> None:
        self._id = id_
        self._emit = emit
        self._done: list[Body] = []
        self._kind = ""
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        emit("response.output_item.added", {"item": self.snapshot("in_progress")})

    def say(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """More text."""
        self._open("output_text")
        self._logprobs += logprobs
        self._text.append(text)
        self._tell("delta", {"delta": text, "logprobs": [_short(one) for one in logprobs]})

    def refuse(self, text: str) -> None:
        """More of a refusal."""
        self._open("refusal")
        self._text.append(text)
        self._tell("delta", {"delta": text})

    def close(self, status: str) -> Body:
        """End the last part and the item; a message without a part gets an empty text."""
        if not self._done and not self._kind:
            self._open("output_text")
        self._close_part()
        item = self.snapshot(status)
        self._emit("response.output_item.done", {"item": item})
        return item

    def snapshot(self, status: str) -> Body:
        """The message with its parts so far."""
        parts = [*self._done, self._part()] if self._kind else list(self._done)
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": parts}

    def _open(self, kind: str) -> None:
        if self._kind == kind:
            return
        self._close_part()
        self._kind = kind
        self._emit("response.content_part.added", {"content_index": len(self._done), "part": self._part()})

    def _close_part(self) -> None:
        if not self._kind:
            return
        text = "".join(self._text)
        if self._kind == "output_text":
            self._tell("done", {"text": text, "logprobs": [_short(one) for one in self._logprobs]})
        else:
            self._tell("done", {"refusal": text})
        part = self._part()
        self._emit("response.content_part.done", {"content_index": len(self._done), "part": part})
        self._done.append(part)
        self._kind, self._text, self._logprobs = "", [], []

    def _part(self) -> Body:
        text = "".join(self._text)
        if self._kind == "refusal":
            return {"type": "refusal", "refusal": text}
        logprobs = [_full(one) for one in self._logprobs]
        return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}

    def _tell(self, what: str, fields: Body) -> None:
        self._emit(f"response.{self._kind}.{what}", {"content_index": len(self._done), **fields})


class ReasoningItem:
    """What a model thinks, in one part."""

    prefix: ClassVar = "rs_"

    def __init__(self, id_: str, emit: Emit, *, encrypted: bool) -> None:
        self._id = id_
        self._emit = emit
        self._encrypted = encrypted
        self._text: list[str] = []
        bare = {"id": id_, "type": "reasoning", "status": "in_progress", "summary": [], "content": []}
        emit("response.output_item.added", {"item": bare})
        emit("response.content_part.added", {"content_index": 0, "part": {"type": "reasoning_text", "text": ""}})

    def think(self, text: str) -> None:
        """More of it."""
        self._text.append(text)
        self._emit("response.reasoning_text.delta", {"content_index": 0, "delta": text})

    def close(self, status: str) -> Body:
        """End the part and the item."""
        text = "".join(self._text)
        self._emit("response.reasoning_text.done", {"content_index": 0, "text": text})
        part = {"type": "reasoning_text", "text": text}
        self._emit("response.content_part.done", {"content_index": 0, "part": part})
        item = self.snapshot(status)
        self._emit("response.output_item.done", {"item": item})
        return item

    def snapshot(self, status: str) -> Body:
        """The thought so far."""
        text = "".join(self._text)
        content = [{"type": "reasoning_text", "text": text}]
        item: Body = {"id": self._id, "type": "reasoning", "status": status, "summary": [], "content": content}
        return item | ({"encrypted_content": sealed(text)} if self._encrypted else {})


class _Call(ABC):
    """A call of either kind: what it is known by, and the JSON of its arguments as it grows."""

    kind: ClassVar[str]

    def __init__(self, id_: str, emit: Emit, call_id: str, called: Mapping[str, Any]) -> None:
        self._bare: Body = {"id": id_, "type": self.kind, "call_id": call_id, "name": called["name"]}
        if called.get("namespace"):
            self._bare["namespace"] = called["namespace"]
        self._emit = emit
        self._arguments: list[str] = []
        emit("response.output_item.added", {"item": self.snapshot("in_progress")})

    def write(self, arguments: str) -> None:
        """More of the JSON."""
        self._arguments.append(arguments)

    def close(self, status: str) -> Body:
        """End what the call is made with, and the item."""
        item = self.snapshot(status)
        self._whole(item)
        self._emit("response.output_item.done", {"item": item})
        return item

    @abstractmethod
    def snapshot(self, status: str) -> Body:
        """The call so far."""

    @abstractmethod
    def _whole(self, item: Body) -> None:
        """Tell that what the call is made with is whole."""


class CallItem(_Call):
    """A function call."""

    prefix: ClassVar = "fc_"
    kind: ClassVar = "function_call"

    def write(self, arguments: str) -> None:
        """More of its arguments."""
        super().write(arguments)
        self._emit("response.function_call_arguments.delta", {"delta": arguments})

    def snapshot(self, status: str) -> Body:
        """The call so far."""
        return self._bare | {"arguments": "".join(self._arguments), "status": status}

    def _whole(self, item: Body) -> None:
        told = {"name": item["name"], "arguments": item["arguments"]}
        self._emit("response.function_call_arguments.done", told)


class CustomCallItem(_Call):
    """The call of a custom tool. Its input stands inside JSON and is told when that is whole."""

    prefix: ClassVar = "ctc_"
    kind: ClassVar = "custom_tool_call"

    def snapshot(self, status: str) -> Body:
        """The call so far."""
        text = "" if status == "in_progress" else _input("".join(self._arguments))
        return self._bare | {"input": text, "status": status}

    def _whole(self, item: Body) -> None:
        if item["input"]:
            self._emit("response.custom_tool_call_input.delta", {"delta": item["input"]})
        self._emit("response.custom_tool_call_input.done", {"input": item["input"]})


def _input(arguments: str) -> str:
    """The text in a custom call's JSON; what is no such JSON is the input itself."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if isinstance(found, dict) and found.keys() == {INPUT} and isinstance(found[INPUT], str):
        return str(found[INPUT])
    return arguments


def _short(one: TokenLogprob) -> Body:
    """A token's logprob as the events of a stream have it."""
    top = [{"token": _text(token), "logprob": value} for _, token, value in one.top]
    return {"token": _text(one.token), "logprob": one.logprob, "top_logprobs": top}


def _full(one: TokenLogprob) -> Body:
    """A token's logprob as an item has it; one that is part of a character shows that in ``bytes``."""
    top = [{"token": _text(token), "logprob": value, "bytes": list(token)} for _, token, value in one.top]
    return {"token": _text(one.token), "logprob": one.logprob, "bytes": list(one.token), "top_logprobs": top}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")
