"""Content blocks of one message ⇄ the domain's parts. Pure.

Source: Anthropic's API reference, "Create a Message", ``messages[].content``. Blocks that only Anthropic's own servers
can make sense of (results of their search, files kept with them …) are refused by name, as the answer would be another
one without them; hints to caches are read and need nothing done: every prefix is cached here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from meshnode.api.fields import check_names, convert, invalid, join, text, unsupported
from meshnode.domain import Part, ReasoningPart, TextPart

T = TypeVar("T", bound=msgspec.Struct)
Raw = Mapping[str, Any]
Content = str | list[dict[str, Any]]
Id = Annotated[str, text(256)]
_CARRIED: Final = "mesh1."
_SEEN: Final = "mesh0."


class TextBlock(msgspec.Struct, kw_only=True):
    """``text``; ``citations`` are what a server adds to its own answers."""

    type: Literal["text"]
    text: str
    cache_control: dict[str, Any] | None = None
    citations: list[Any] | None = None


class ThinkingBlock(msgspec.Struct, kw_only=True):
    """``thinking``."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""
    cache_control: dict[str, Any] | None = None


class RedactedBlock(msgspec.Struct, kw_only=True):
    """``redacted_thinking``: sealed for Anthropic's servers, so that nobody else can read it."""

    type: Literal["redacted_thinking"]
    data: str
    cache_control: dict[str, Any] | None = None


class DocumentBlock(msgspec.Struct, kw_only=True):
    """``document``."""

    type: Literal["document"]
    source: dict[str, Any]
    title: Annotated[str, text(65536)] | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class SearchResultBlock(msgspec.Struct, kw_only=True):
    """``search_result``."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[dict[str, Any]]
    citations: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class ToolReferenceBlock(msgspec.Struct, kw_only=True):
    """``tool_reference``: what a search among tools found. All of them are on offer here from the start."""

    type: Literal["tool_reference"]
    tool_name: Annotated[str, text(256)]
    cache_control: dict[str, Any] | None = None


class PlainSource(msgspec.Struct, kw_only=True):
    """``source`` of a document that is text."""

    type: Literal["text"]
    data: str
    media_type: Literal["text/plain"] = "text/plain"


class ContentSource(msgspec.Struct, kw_only=True):
    """``source`` of a document that is made of blocks."""

    type: Literal["content"]
    content: Content


UNSERVED: Final = frozenset({
    "image", "container_upload", "server_tool_use", "web_search_tool_result", "web_fetch_tool_result",
    "code_execution_tool_result", "bash_code_execution_tool_result", "text_editor_code_execution_tool_result",
    "tool_search_tool_result", "advisor_tool_result", "mcp_tool_use", "mcp_tool_result",
    "mcp_tool_listing", "tool_addition", "tool_removal", "browser_state", "compaction", "fallback",
})  # fmt: skip
"""Documented blocks that no model here can take, or that only Anthropic's servers can read."""


def parts(content: Content, path: str, kinds: Sequence[str]) -> tuple[Part, ...]:
    """The parts of content that has blocks of these kinds only. Raises InvalidField, UnknownField or
    UnsupportedParameter, which name the block."""
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(part for index, raw in enumerate(content) for part in block(raw, f"{path}[{index}]", kinds))


def block(raw: Raw, path: str, kinds: Sequence[str]) -> tuple[Part, ...]:
    """The parts of one block. Raises as :func:`parts`."""
    kind = kind_of(raw, path, kinds)
    return _READERS[kind](raw, path)


def kind_of(raw: Raw, path: str, kinds: Sequence[str]) -> str:
    """The block's type. Raises UnsupportedParameter for one not served, InvalidField for one not allowed here."""
    kind = raw.get("type")
    if isinstance(kind, str) and kind in UNSERVED:
        raise unsupported(join(path, kind))
    if not isinstance(kind, str) or kind not in kinds:
        raise invalid(f"{path}.type", kind, " or ".join(kinds))
    return kind


def sign(thought: str, *, omitted: bool) -> str:
    """The ``signature`` of a thought that was told: opaque to clients, who send it back with the thought.

    Nothing here hangs on its being true. Of a thought that the client did not want to be told it carries the text, so
    that the model has it again on the next turn.
    """
    if omitted:
        return _CARRIED + base64.b64encode(thought.encode()).decode("ascii")
    return _SEEN + hashlib.sha256(thought.encode()).hexdigest()[:32]


def _text(raw: Raw, path: str) -> tuple[Part, ...]:
    return (TextPart(read(raw, TextBlock, path).text),)


def _thinking(raw: Raw, path: str) -> tuple[Part, ...]:
    fields = read(raw, ThinkingBlock, path)
    thought = fields.thinking or _carried(fields.signature)
    return (ReasoningPart(thought, fields.signature[: len(_SEEN) + 32]),) if thought else ()


def _carried(signature: str) -> str:
    """The thought that a signature of ours carries; none where it is another's, or damaged."""
    if not signature.startswith(_CARRIED):
        return ""
    try:
        return base64.b64decode(signature.removeprefix(_CARRIED), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _redacted(raw: Raw, path: str) -> tuple[Part, ...]:
    read(raw, RedactedBlock, path)
    return ()


def _document(raw: Raw, path: str) -> tuple[Part, ...]:
    fields = read(raw, DocumentBlock, path)
    _no_citations(fields.citations, path)
    texts = _source(fields.source, f"{path}.source")
    head = f' title="{_attribute(fields.title)}"' if fields.title else ""
    body = "\n".join(filter(None, [fields.context, *texts]))
    return (TextPart(f"<document{head}>\n{body}\n</document>"),)


def _source(raw: Raw, path: str) -> list[str]:
    kind = raw.get("type")
    if isinstance(kind, str) and kind in ("base64", "url", "file"):
        raise unsupported(f"{path}.type", "Send the document's text (type text).", what=f" {kind}")
    if kind == "content":
        content = read(raw, ContentSource, path).content
        return [part.text for part in parts(content, f"{path}.content", ("text",)) if isinstance(part, TextPart)]
    if kind != "text":
        raise invalid(f"{path}.type", kind, "text or content")
    return [read(raw, PlainSource, path).data]


def _search_result(raw: Raw, path: str) -> tuple[Part, ...]:
    fields = read(raw, SearchResultBlock, path)
    _no_citations(fields.citations, path)
    texts = [part.text for part in parts(fields.content, f"{path}.content", ("text",)) if isinstance(part, TextPart)]
    head = f'title="{_attribute(fields.title)}" source="{_attribute(fields.source)}"'
    return (TextPart("\n".join([f"<search_result {head}>", *texts, "</search_result>"])),)


def _tool_reference(raw: Raw, path: str) -> tuple[Part, ...]:
    return (TextPart(f"The tool {read(raw, ToolReferenceBlock, path).tool_name} is on offer."),)


def _no_citations(citations: Raw | None, path: str) -> None:
    """Raises UnsupportedParameter where citations are asked for: no answer here has any."""
    if citations is not None and citations.get("enabled") not in (None, False):
        raise unsupported(f"{path}.citations", "Leave it out or disable them.")


def _attribute(value: str) -> str:
    return value.replace("&", "&amp;").replace('"', "&quot;").replace("\n", " ")


def read(raw: Raw, kind: type[T], path: str) -> T:
    """A struct of the block. Raises UnknownField or InvalidField."""
    check_names(raw, kind, {}, path=path)
    return convert(raw, kind, path=path)


_READERS: Final[Mapping[str, Callable[[Raw, str], tuple[Part, ...]]]] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}
