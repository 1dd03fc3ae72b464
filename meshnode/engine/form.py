"""What form a request's answers take: which family reads them, and what holds them to it. Pure.

A conversation's answer is read by the model's family (reasoning, calls); a plain prompt's is text as it stands. What
must hold (a schema, a forced call) is held token by token; where a model reasons first, only once it has ended that.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import msgspec

from meshnode.domain import GenerationRequest, Tool, ToolMode
from meshnode.engine.backend import Backend
from meshnode.engine.constrain.either import Either, Holds
from meshnode.engine.constrain.matcher import Constrainer, Matcher, Vocabulary
from meshnode.engine.constrain.schema import canonical
from meshnode.engine.replies.families import family_of, reading_fences
from meshnode.engine.replies.family import Family
from meshnode.engine.replies.reading import Parser
from meshnode.engine.templates import ChatTemplate
from meshnode.errors import RequestError, UnsupportedParameter

_ID_BYTES = 6
"""Of a call's id: nine letters and digits in all with its number, as Mistral's templates want them."""


class Form(NamedTuple):
    """Of one request. ``matcher`` is where every answer begins under what must hold, ``None`` if nothing must.

    ``holds_calls``: no call is made but as it says; ``holds_thought``: it knows of reasoning before them, too.
    """

    request: GenerationRequest
    prompt: Sequence[int]
    prompt_tail: str
    seed: int
    matcher: Holds | None
    holds_calls: bool = False
    holds_thought: bool = False


class Forms:
    """The forms that answers of one model can take, by its chat template."""

    def __init__(self, backend: Backend, template: ChatTemplate) -> None:
        self._backend = backend
        self._template = template
        self._family = family_of(template.source)

    def of(self, request: GenerationRequest, prompt: Sequence[int], prompt_tail: str, seed: int) -> Form:
        """What holds the answers to ``request``. Raises InvalidField or UnsupportedParameter for what cannot be held.

        ``prompt`` are its tokens, ``prompt_tail`` is what the template wrote last, for the answer to go on from.
        """
        form = Form(request, prompt, prompt_tail, seed, None)
        calls = self._calls(request, prompt_tail)
        if request.constraint is None:
            return form if calls is None else form._replace(matcher=calls, holds_calls=True, holds_thought=True)
        if calls is None:
            return form._replace(matcher=self._constrainer.compile(request.constraint))
        if request.tool_choice.mode is ToolMode.REQUIRED:
            return form._replace(matcher=calls, holds_calls=True, holds_thought=True)
        either = Either([self._constrainer.compile(request.constraint), calls])
        return form._replace(matcher=either, holds_calls=True)

    def reader(self, form: Form, choice: int) -> Parser | None:
        """What reads one answer; ``None`` for one that is text as it stands."""
        request = form.request
        if not request.messages:
            return None
        return self._reading.parser(
            tools=_callable(request),
            prompt_tail=form.prompt_tail,
            parallel=request.parallel_tool_calls,
            forced=form.holds_calls,
            ids=_Ids(form, choice),
        )

    def piece(self, form: Form, token: int) -> bytes:
        """The bytes of a token as the answer's reader must see them: the family's own marks are shown."""
        return self._backend.piece(token, special=bool(form.request.messages) and token in self._shown)

    def _calls(self, request: GenerationRequest, prompt_tail: str) -> Matcher | None:
        """What holds the answer to calls, or calls to their schemas, where any must be held.

        Beside a constraint of the text it is calls and nothing else, without reasoning: text is the other's.
        """
        tools, choice = _callable(request), request.tool_choice
        must = choice.mode is ToolMode.REQUIRED
        beside = request.constraint is not None and not must
        if not tools or not (must or beside or any(tool.strict for tool in tools)):
            return None
        try:
            source = self._family.forced(
                [_checked(tool) if must or beside or tool.strict else tool for tool in tools],
                msgspec.structs.replace(choice, mode=ToolMode.REQUIRED) if beside else choice,
                parallel=request.parallel_tool_calls,
                prompt_tail=prompt_tail,
                control=self._marks,
                thought=not beside,
            )
            if source is None and request.constraint is not None:
                what = "tools beside a constraint of the answer are not supported: this model's calls cannot be held."
                raise UnsupportedParameter(what, hint="Leave one of them out.")
            return None if source is None else self._constrainer.compile_grammar(source)
        except RequestError as error:
            error.param = "tools"
            raise

    @cached_property
    def _reading(self) -> Family:
        """What reads answers: a model that was told in words how to call, or sees its calls so, may write them so."""
        takes = self._template.takes()
        return self._family if takes.tools and takes.tool_calls else reading_fences(self._family)

    @cached_property
    def _constrainer(self) -> Constrainer:
        backend = self._backend
        every = range(backend.info.n_vocab)
        ends = [token for token in every if backend.ends_generation(token)]
        return Constrainer(
            Vocabulary(
                n_vocab=len(every),
                piece=lambda token, special: backend.piece(token, special=special),
                ends=frozenset(ends),
                eos=next(iter(self._single(backend.eos_text)), ends[0] if ends else 0),
                is_control=backend.is_control,
                tokenize=self._tokenize,
            )
        )

    def _tokenize(self, text: str) -> list[int]:
        return self._backend.tokenize(text, add_special=False, parse_special=False)

    @cached_property
    def _marks(self) -> dict[str, int]:
        """The family's marks that are single tokens of this model, by their text."""
        found = {mark: self._single(mark) for mark in self._family.preserved}
        return {mark: tokens[0] for mark, tokens in found.items() if tokens}

    @cached_property
    def _shown(self) -> frozenset[int]:
        return frozenset(self._marks.values())

    def _single(self, text: str) -> list[int]:
        """The one token that stands for a text, or none."""
        tokens = self._backend.tokenize(text, add_special=False, parse_special=True) if text else []
        return tokens if len(tokens) == 1 else []


class _Ids:
    """Ids of the calls in one answer: the same wherever it is computed, others in every other answer."""

    def __init__(self, form: Form, choice: int) -> None:
        self._form = form
        self._choice = choice

    def __call__(self, index: int) -> str:
        """The id of call number ``index``."""
        return f"{self._digest}{index % 1000:03}"

    @cached_property
    def _digest(self) -> str:
        said = array("q", self._form.prompt).tobytes() + f"{self._form.seed}/{self._choice}".encode()
        return hashlib.blake2b(said, digest_size=_ID_BYTES // 2).hexdigest()


def _checked(tool: Tool) -> Tool:
    """A tool whose schema may be compiled: judged as an answer's is, since one can be made to cost what it likes.

    What cannot be held is refused of a strict tool; any other is held to a JSON object, whatever is in it.
    """
    try:
        canonical(tool.parameters, f"the parameters of {tool.name}")
    except UnsupportedParameter:
        if tool.strict:
            raise
        return msgspec.structs.replace(tool, parameters="{}")
    return tool


def _callable(request: GenerationRequest) -> tuple[Tool, ...]:
    """The tools that an answer may call."""
    choice = request.tool_choice
    if choice.mode is ToolMode.NONE:
        return ()
    return tuple(tool for tool in request.tools if not choice.names or tool.name in choice.names)
