"""Renders a conversation with the model's own chat template. The only door to jinja2.

A template is code that came with a model file (CVE-2024-34359), so it runs in jinja2's immutable sandbox, inside
:class:`meshnode.engine.fence.Fence`, and cannot load other templates. What it finds there is what templates are written
against: ``transformers`` (``apply_chat_template``: trim_blocks, lstrip_blocks, loop controls, ``raise_exception``,
``strftime_now``, ``tojson`` without HTML escapes, ``{% generation %}``), with the extras and the fallbacks of
llama.cpp's ``common/chat.cpp`` (``date_string``, ``datetime``, an assistant's turn to go on with). How much a model
thinks unasked is said as llama-server says it: ``enable_thinking`` is true where the template has a use for it. A
template that has no words for tools is told of them in a system message of our own; one that takes no system message
in mid-conversation has the user say it.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import jinja2
import jinja2.exceptions

from meshnode.domain import GenerationRequest, Message, Role
from meshnode.engine.fence import Fence, TimeUp
from meshnode.engine.late_system import said_by_users
from meshnode.engine.template_probe import probe
from meshnode.engine.template_sandbox import RefusedError, environment
from meshnode.engine.tool_texts import in_words
from meshnode.engine.turns import Takes, begun, marked, tool_list, turns
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
_RESERVED = frozenset({
    "messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "raise_exception", "strftime_now",
})  # fmt: skip


class _TooLargeError(Exception):
    """The output outgrew :data:`MAX_OUTPUT`."""


class Prompt(NamedTuple):
    """A rendered conversation; ``opening`` is the end of ``text`` that begins the assistant's answer."""

    text: str
    opening: str


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
        if add_generation_prompt and request.messages and request.messages[-1].role == Role.ASSISTANT:
            return self.prompt(request).text
        return self._fenced(request, request.messages, begins=add_generation_prompt)

    def prompt(self, request: GenerationRequest) -> Prompt:
        """:meth:`render`'s prompt, with what of it begins the answer: a parser sees there what is already open.

        The opening is what comes of ``add_generation_prompt``. Where a template does not heed that, it is all that
        stands after the last text of the conversation. Nothing that a message says can get into it, but for a last
        message of the assistant's, which is continued and belongs to the answer. Raises what :meth:`render` raises.
        """
        messages = request.messages
        last = _last(messages) if messages and messages[-1].role == Role.ASSISTANT else None
        if last is not None:
            messages = messages[:-1]
        whole = self._fenced(request, messages, begins=True)
        opening = self._opening(request, messages, whole)
        if last is None:
            return Prompt(whole, opening)
        head, opening = whole[: len(whole) - len(opening)], begun(last, opening, self.takes())
        return Prompt(head + opening, opening)

    @property
    def source(self) -> str:
        """The template's text."""
        return self._source

    def takes(self) -> Takes:
        """What the template can take and show. Raises ModelFailed, as :meth:`render` does; on the main thread."""
        if self._takes is None:
            self._within(lambda template, takes: "")
        assert self._takes is not None
        return self._takes

    def _opening(self, request: GenerationRequest, messages: Sequence[Message], whole: str) -> str:
        """The end of ``whole`` that begins the answer."""
        rest = self._fenced(request, messages, begins=False)
        if whole != rest and whole.startswith(rest):
            return whole[len(rest) :]
        # Of the prompt itself, so that no message in it can contain it.
        mark = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        try:
            _, found, opening = self._fenced(request, messages, begins=True, mark=mark).rpartition(mark)
        except TemplateRefused:
            return ""
        return opening if found and whole.endswith(opening) else ""

    def _fenced(self, request: GenerationRequest, messages: Sequence[Message], *, begins: bool, mark: str = "") -> str:
        """The prompt for these of a request's messages, with a mark after each text."""
        known = self._known(request) | ({"add_generation_prompt": True} if begins else {})

        def conversation(template: jinja2.Template, takes: Takes) -> str:
            told = marked(turns(said_by_users(in_words(messages, request, takes), takes), takes), mark)
            return _run(template, {"enable_thinking": takes.thinking} | known | {"messages": told})

        return self._within(conversation)

    def _within(self, work: Callable[[jinja2.Template, Takes], str]) -> str:
        """Everything that runs the template's code."""
        try:
            with Fence(self._cpu_s, MAX_MEMORY):
                return work(*self._prepared())
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
        if not request.parallel_tool_calls:
            known["parallel_tool_calls"] = False
        if request.tools:
            known["tools"] = tool_list(request.tools)
        return _spelled(known | _kwargs(request.template_kwargs))

    def _prepared(self) -> tuple[jinja2.Template, Takes]:
        """The compiled template and what it takes, found out once."""
        if self._template is None or self._takes is None:
            if len(self._source) > MAX_SOURCE:
                raise ModelFailed(
                    f"The model's chat template has {len(self._source)} characters; at most {MAX_SOURCE} are allowed."
                )
            self._template = environment(self._now).from_string(self._source)
            self._takes = self._asked(self._template)
        return self._template, self._takes

    def _asked(self, template: jinja2.Template) -> Takes:
        """Find out what the template takes by trying."""
        known = {"bos_token": self._bos, "eos_token": self._eos}

        def shown(**given: Any) -> str | None:
            try:
                return _run(template, known | given)
            except Exception:
                return None

        return probe(self._source, shown)

    def _translated(self, fault: BaseException) -> Exception:
        """What went wrong in our words. Of foreign errors only kind and line: their text may quote a message."""
        match fault:
            case TemplateRefused() | InvalidField() | ModelFailed():
                return fault
            case RefusedError():
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


def _last(messages: tuple[Message, ...]) -> Message:
    """A last assistant's turn that is to be continued."""
    last = messages[-1]
    if last.tool_calls:
        raise InvalidField("The last message has tool calls that no tool has answered.", param="messages")
    if len(messages) > 1 and messages[-2].role == Role.ASSISTANT:
        raise InvalidField("The last two messages are the assistant's; only one can be continued.", param="messages")
    return last


def _spelled(known: dict[str, Any]) -> dict[str, Any]:
    """The same wishes in the names that other templates have for them; past reasoning is kept unless told otherwise.

    Kept, because a conversation whose past changes with each turn must be read anew by the model.
    """
    kept = known.setdefault("preserve_reasoning", True)
    also: dict[str, Any] = {}
    if isinstance(kept, bool):
        also = dict.fromkeys(("clear_thinking", "truncate_history_thinking", "drop_thinking"), not kept)
        also["preserve_thinking"] = kept
    if effort := known.get("reasoning_effort"):
        also["reasoning_strength"] = effort
    return also | known


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
