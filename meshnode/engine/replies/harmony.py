"""OpenAI's harmony format, as gpt-oss writes it: messages with a channel and maybe a recipient. Pure.

Source: the harmony response format's specification (openai/harmony, ``docs/format.md``). After ``<|start|>assistant``
comes a header with a channel and, for a call, ``to=functions.name``, in either order; ``<|message|>``; the body; and
``<|end|>``, ``<|call|>`` or ``<|return|>``. ``analysis`` is reasoning, ``final`` and ``commentary`` are text. A call
of anything that was not offered, the built-in tools of OpenAI's own service among them, is text with its header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshnode.domain import Tool
from meshnode.engine.replies.forcing import ANY_TEXT, Lark
from meshnode.engine.replies.jsontext import JsonScan
from meshnode.engine.replies.reading import Reading
from meshnode.engine.replies.tape import Malformed, Sink, Steps

START: Final = "<|start|>"
_CHANNEL: Final = "<|channel|>"
_MESSAGE: Final = "<|message|>"
_ENDS: Final = ("<|end|>", "<|call|>", "<|return|>")
_BEGINS: Final = (START, _CHANNEL, _MESSAGE, "to=")
_HEADER: Final = re.compile(
    r"(<\|start\|>\w*|<\|channel\|>\w*|\s|to=[\w.]*|<\|constrain\|>|json|<\|?\w*\|?$)*(<\|\w+\|>)?"
)
"""A header, or the beginning of one, that says nothing if nothing follows."""
_RECIPIENT: Final = re.compile(r"\bto=([^\s<]+)")
_KIND: Final = re.compile(r"<\|channel\|>\s*(\w+)")


@dataclass(frozen=True)
class HarmonyCalls:
    """What forcing needs of the format; reading is :func:`read_reply`'s, which looks for more than an opening mark."""

    @property
    def literals(self) -> tuple[str, ...]:
        """All fixed text of it."""
        return (START, _CHANNEL, _MESSAGE, "<|constrain|>", *_ENDS)

    def read(self, reading: Reading, mark: str) -> Steps[None]:
        """No mark begins a call here: :func:`read_reply` reads the whole reply. Raises Malformed."""
        yield from reading.tape.white()
        raise Malformed

    def force(self, lark: Lark, tools: Sequence[Tool], mark: str, *, many: bool) -> str:
        """One call of ``tools``, from its channel on; the token that ends it ends the reply."""
        return lark.rule("call", " | ".join(self._forced(lark, tool) for tool in tools))

    def _forced(self, lark: Lark, tool: Tool) -> str:
        head = f"commentary to=functions.{tool.name} <|constrain|>json<|message|>"
        return f"{lark.text(head)} {lark.arguments(tool)} ({lark.text('<|call|>')})?"


def start(lark: Lark, tools: Sequence[Tool], prompt_tail: str, required: bool) -> str:
    """The start of a grammar that forces a call, or lets one be only of ``tools``: messages, then the last one."""
    again = lark.text(START + "assistant")
    body = f"{lark.up_to('<|end|>')} {again}"
    rest = HarmonyCalls().force(lark, tools, _CHANNEL, many=False)
    call = f"{lark.text(_CHANNEL)} {rest}"
    kinds = f"({lark.text('analysis')} | {lark.text('commentary')})"
    before = f"({lark.text(_CHANNEL)} {kinds} {lark.text(_MESSAGE)} {body})"
    last = call
    if not required:
        final = f"{lark.text(_CHANNEL + 'final')} ({lark.text(' <|constrain|>json')})? {lark.text(_MESSAGE)}"
        last = f"({call} | {final} {lark.rule('text', ANY_TEXT)})"
    opened = f"{body} " if begins(prompt_tail).endswith(_MESSAGE) else ""
    return f"{opened}{before}{'?' if required else '*'} {last}"


def begins(prompt_tail: str) -> str:
    """The message at the end of a prompt that the reply goes on with."""
    start = prompt_tail.rfind(START)
    return prompt_tail[start:] if start >= 0 and not any(end in prompt_tail[start:] for end in _ENDS) else ""


def read_reply(reading: Reading) -> Steps[None]:
    """Messages up to the end of the reply. What comes without a header is text."""
    tape, voice = reading.tape, reading.voice
    mark = ""
    while mark or (yield from tape.peek()):
        if not mark:
            yield from tape.white()
            mark = yield from tape.match(_BEGINS)
        if not mark:
            voice.say(tape.unsaid())
            mark = yield from _text(reading, voice.say)
            continue
        if mark != _MESSAGE:
            mark = yield from tape.until((_MESSAGE, *_ENDS), None)
        if mark == _MESSAGE:
            mark = yield from _body(reading, tape.held())
            continue
        mark, header = "", tape.unsaid()
        if not _HEADER.fullmatch(header):
            voice.say(header)


def _body(reading: Reading, header: str) -> Steps[str]:
    """What stands after a header, as what the header says it is; the mark of the next header, if that was read."""
    tape, voice = reading.tape, reading.voice
    recipients = [each for each in _RECIPIENT.findall(header) if each != "assistant"]
    if recipients:
        if (yield from _call(reading, recipients[-1])):
            return ""
        voice.say(tape.unsaid())
        return (yield from _text(reading, voice.say))
    tape.forget()
    channels = _KIND.findall(header)
    if not channels or channels[-1] != "analysis":
        return (yield from _text(reading, voice.say))
    voice.think("")
    mark = yield from _text(reading, voice.think)
    voice.rest()
    return mark


def _text(reading: Reading, sink: Sink) -> Steps[str]:
    """A body up to its end; the mark of the next header, if it has no end of its own."""
    mark = yield from reading.tape.until((START, _CHANNEL, *_ENDS), sink)
    if mark in _ENDS or not mark:
        reading.tape.forget()
        return ""
    return mark


def _call(reading: Reading, recipient: str) -> Steps[bool]:
    """The body of a call; false if it is none."""
    tape = reading.tape
    try:
        yield from tape.white()
        if not recipient.startswith("functions.") or (yield from tape.peek()) != "{":
            return False
        reading.begin(recipient)
        yield from tape.pull(JsonScan("{"), reading.arguments)
        yield from tape.white()
        yield from tape.match(_ENDS, cut=True)
    except Malformed:
        return False
    tape.forget()
    reading.voice.rest()
    return True
