"""Renders a conversation with the model's own chat template. The only door to jinja2.

A template is code that came with a model file (CVE-2024-34359), so it runs in jinja2's immutable sandbox, inside
:class:`meshnode.engine.fence.Fence`, and cannot load other templates. What it finds there is what templates are written
against: ``transformers`` (``apply_chat_template``: trim_blocks, lstrip_blocks, loop controls, ``raise_exception``,
``strftime_now``, ``tojson`` without HTML escapes, ``{% generation %}``), with the extras and the fallbacks of
llama.cpp's ``common/chat.cpp`` (``date_string``, ``datetime``, an assistant's turn to go on with). How much a model
thinks unasked is its template's choice: ``enable_thinking`` is set only where the caller says.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from meshnode.domain import GenerationRequest, Message, Role
from meshnode.engine.fence import Fence, TimeUp
from meshnode.engine.turns import Takes, Turn, text_of, tool_list, turns
from meshnode.errors import InvalidField, ModelFailed, TemplateRefused

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The fallback of models that bring no template: ChatML, which most of them have seen."""
MAX_SOURCE = 1 << 18
"""Characters of a template; the longest in use has 17,000."""
MAX_OUTPUT = 1 << 26
"""Characters of a rendered prompt; the largest request body has half as many."""
MAX_MEMORY = 1 << 29
"""Bytes that rendering may allocate: the longest body in four-byte characters, a few times over."""
MAX_BITS = 4096
"""Size of integers that a template may multiply or divide; larger ones would keep the CPU in one instruction."""
MAX_MESSAGE = 500
"""Characters that a template may say when it refuses."""

_STRFTIME = re.compile(r"(?:[^%]|%[-_0^#]?[A-Za-z%])*")
_RESERVED = frozenset({
    "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "raise_exception", "strftime_now",
})  # fmt: skip
_MARK = "meshnode-mark"


class _RefusedError(Exception):
    """The template called ``raise_exception``."""


class _TooLargeError(Exception):
    """The output outgrew :data:`MAX_OUTPUT`."""


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, with integers kept to a size that the CPU is done with at once."""

    intercepted_binops = frozenset({"*", "**", "/", "//", "%"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Do ``left operator right``; SecurityError for integers too large."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise jinja2.exceptions.SecurityError(f"integers of more than {MAX_BITS} bits")
        return super().call_binop(context, operator, left, right)


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what the assistant said, for training; rendering it is all there is to do here."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The block's body as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None, **how: Any) -> str:
    """``tojson`` as ``transformers`` has it; jinja2's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **how)


def _raise_exception(message: object = "") -> NoReturn:
    """What templates call to refuse a conversation."""
    raise _RefusedError(str(message)[:MAX_MESSAGE])


def _environment(now: Callable[[], datetime]) -> _Sandbox:
    """What a template finds around it."""

    def strftime_now(form: str) -> str:
        if len(form) > 100 or not _STRFTIME.fullmatch(form):
            raise jinja2.exceptions.SecurityError("a date format with field widths")
        return now().strftime(form)

    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation], loader=None
    )
    del environment.globals["lipsum"], environment.filters["random"]
    environment.globals |= {"raise_exception": _raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = _tojson
    return environment


class ChatTemplate:
    """A model's chat template; ``source`` None stands for :data:`CHATML`. ``now`` is local time.

    Nothing of the template runs before the first :meth:`render`, which must be on the process's main thread.
    ``cpu_s`` bounds each rendering in seconds of CPU time.
    """

    def __init__(
        self, source: str | None, *, bos: str, eos: str, now: Callable[[], datetime], cpu_s: float = 1.0
    ) -> None:
        self._source = CHATML if source is None else source
        self._bos = bos
        self._eos = eos
        self._now = now
        self._cpu_s = cpu_s
        self._template: jinja2.Template | None = None
        self._takes: Takes | None = None

    def render(self, request: GenerationRequest, *, add_generation_prompt: bool = True) -> str:
        """The prompt for ``request.messages``.

        With ``add_generation_prompt`` it ends where the assistant's answer begins; a last message of the assistant is
        begun anew and left open, to be continued, as llama.cpp does.

        Raises TemplateRefused (the template's own words, or its line), InvalidField (content it cannot take,
        template_kwargs), and ModelFailed (not a template, or one that does what it must not).
        """
        messages, begun = request.messages, ""
        if add_generation_prompt and messages and messages[-1].role == Role.ASSISTANT:
            messages, begun = messages[:-1], _begun(messages)
        known = self._known(request)
        known["add_generation_prompt"] = add_generation_prompt
        return self._fenced_run(known, messages) + begun

    def generation_prompt(self, request: GenerationRequest) -> str:
        """The end of :meth:`render`'s prompt that the assistant's answer goes on from. Raises as that does."""
        messages, begun = request.messages, ""
        if messages and messages[-1].role == Role.ASSISTANT:
            messages, begun = messages[:-1], _begun(messages)
        known = self._known(request)
        asked, told = (self._fenced_run(known | {"add_generation_prompt": add}, messages) for add in (True, False))
        return (asked.removeprefix(told) if asked.startswith(told) else "") + begun

    def _fenced_run(self, known: dict[str, Any], messages: Sequence[Message]) -> str:
        """Everything that runs the template's code."""
        try:
            with Fence(self._cpu_s, MAX_MEMORY):
                template, takes = self._prepared()
                return _run(template, known | {"messages": turns(messages, takes)})
        except (TimeUp, Exception) as fault:
            translated = self._translated(fault)
        if isinstance(translated, ModelFailed):
            gc.collect()  # only now that the fault is gone, whose traceback held all the memory it used
        raise translated

    def _known(self, request: GenerationRequest) -> dict[str, Any]:
        """The variables a template finds, but for the conversation."""
        now = self._now()
        effort = request.reasoning_effort
        known: dict[str, Any] = {
            "bos_token": self._bos,
            "eos_token": self._eos,
            "date_string": now.strftime("%d %b %Y"),
            "datetime": now.strftime("%b %d %Y"),
        }
        if effort == "none":
            known["enable_thinking"] = False
        elif effort is not None:
            known["reasoning_effort"] = effort
        if request.tools:
            known["tools"] = tool_list(request.tools)
        return known | _kwargs(request.template_kwargs)

    def _prepared(self) -> tuple[jinja2.Template, Takes]:
        """The compiled template and what it takes, found out once."""
        if self._template is None or self._takes is None:
            if len(self._source) > MAX_SOURCE:
                raise ModelFailed(
                    f"The model's chat template has {len(self._source)} characters; at most {MAX_SOURCE} are allowed."
                )
            self._template = _environment(self._now).from_string(self._source)
            self._takes = self._asked(self._template)
        return self._template, self._takes

    def _asked(self, template: jinja2.Template) -> Takes:
        """Find out what the template takes by giving it marked content, as llama.cpp's ``jinja/caps.cpp`` does."""
        known = {"bos_token": self._bos, "eos_token": self._eos, "add_generation_prompt": True}

        def shown(*said: Turn) -> str:
            try:
                return _run(template, known | {"messages": list(said)})
            except Exception:
                return ""

        as_parts = shown({"role": "user", "content": [{"type": "text", "text": _MARK}]})
        parts = _MARK in as_parts and "'type'" not in as_parts and '"type"' not in as_parts
        text = _MARK in shown({"role": "user", "content": _MARK}) or not parts

        def say(role: str, said: str) -> Turn:
            return {"role": role, "content": said if text else [{"type": "text", "text": said}]}

        called = {"type": "function", "function": {"name": "f", "arguments": {_MARK: "1"}}}
        calling = shown(say("user", "q"), say("assistant", "") | {"tool_calls": [called]})
        return Takes(
            text=text,
            parts=parts,
            system=_MARK in shown(say("system", _MARK), say("user", "q")),
            developer="<|channel|>" in self._source,
            argument_objects=_MARK in calling and f"'{_MARK}'" not in calling,
        )

    def _translated(self, fault: BaseException) -> Exception:
        """What went wrong in our words. Of foreign errors only kind and line: their text may quote a message."""
        match fault:
            case TemplateRefused() | InvalidField() | ModelFailed():
                return fault
            case _RefusedError():
                return TemplateRefused(f"The model's chat template refuses these messages: {fault}", param="messages")
            case TimeUp():
                return ModelFailed(f"The model's chat template ran for more than {self._cpu_s:g} s of CPU time.")
            case MemoryError() | RecursionError() | _TooLargeError():
                return ModelFailed("The model's chat template outgrew its bounds in memory, depth or output.")
            case jinja2.exceptions.SecurityError() | OverflowError():
                return ModelFailed(f"The model's chat template tried what a template may not do{_line(fault)}.")
            case jinja2.TemplateSyntaxError() if self._template is None:
                return ModelFailed(f"The model's chat template is not valid: line {fault.lineno}: {fault.message}")
            case Exception() if self._template is None:
                return ModelFailed(f"The model's chat template cannot be compiled ({type(fault).__name__}).")
        where = f"{type(fault).__name__}{_line(fault)}"
        return TemplateRefused(
            f"The model's chat template could not render these messages ({where}).",
            hint="It may ask for other roles, or another order of them.",
            param="messages",
        )


def _run(template: jinja2.Template, known: Mapping[str, Any]) -> str:
    """Render, counting what comes out."""
    pieces, size = [], 0
    for piece in template.generate(known):
        size += len(piece)
        if size > MAX_OUTPUT:
            raise _TooLargeError
        pieces.append(piece)
    return "".join(pieces)


def _begun(messages: tuple[Message, ...]) -> str:
    """The text of a last assistant's turn that is to be continued."""
    last = messages[-1]
    if last.tool_calls:
        raise InvalidField("The last message has tool calls that no tool has answered.", param="messages")
    if len(messages) > 1 and messages[-2].role == Role.ASSISTANT:
        raise InvalidField("The last two messages are the assistant's; only one can be continued.", param="messages")
    return text_of(last)


def _kwargs(text: str) -> dict[str, Any]:
    """``chat_template_kwargs`` as variables."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidField("chat_template_kwargs is not a JSON object.", param="chat_template_kwargs")
    if taken := sorted(_RESERVED & given.keys()):
        raise InvalidField(f"chat_template_kwargs cannot set {', '.join(taken)}.", param="chat_template_kwargs")
    return given


def _line(fault: BaseException) -> str:
    """Where in the template an error arose, if its traceback tells."""
    at, trace = "", fault.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            at = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return at
