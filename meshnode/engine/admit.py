"""From a request to a sequence: what this engine refuses, by name, and how the rest becomes tokens.

Everything here runs once per request, between two steps. Nothing that a request holds may raise anything but a
MeshnodeError; what does is a defect, and is turned into one by the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from meshnode.domain import (
    AudioPart,
    FilePart,
    GenerationRequest,
    ImagePart,
    Kind,
    Message,
    ToolMode,
)
from meshnode.engine.backend import Backend
from meshnode.engine.bad_words import TokenWords, token_words
from meshnode.engine.breakers import Vocabulary
from meshnode.engine.choice import Choice
from meshnode.engine.form import Form, Forms
from meshnode.engine.generation import Generation
from meshnode.engine.middle_out import NAME as MIDDLE_OUT
from meshnode.engine.middle_out import middle_out
from meshnode.engine.pipe import Submit
from meshnode.engine.sampling import Sampler
from meshnode.engine.sequence import TokenSequence
from meshnode.engine.templates import ChatTemplate
from meshnode.errors import TOO_LONG, ContextLengthExceeded, InvalidField, UnsupportedParameter

_SEED_MASK = 2**64 - 1
_LONG = 2**20
"""Characters from which on a text is looked at before it is tokenised, which takes a second for every few million."""
_ANSWER = 512
"""Tokens kept for an answer that no bound is set to; never more than a quarter of the context."""
_CHARACTERS_PER_TOKEN = 8
"""A conversation of more characters for each token of the context is not tried whole: text has three to five."""


class Reading(NamedTuple):
    """A prompt's ``tokens``, its ``text`` where it has one, and what the template wrote last of it: the ``opening`` of
    the answer."""

    tokens: list[int]
    text: str
    opening: str


class Admission:
    """Makes a :class:`Generation` of each request to one backend."""

    def __init__(self, backend: Backend, template: ChatTemplate, *, entropy: Callable[[], int]) -> None:
        self._backend = backend
        self._template = template
        self._forms = Forms(backend, template)
        self._entropy = entropy
        self._longest: int | None = None
        self._vocabulary = Vocabulary(backend.info.n_vocab, partial(backend.piece, special=True), self._plain_tokens)
        info = backend.info
        self.limit = min(info.n_ctx, info.n_ctx_train) if info.n_ctx_train > 0 else info.n_ctx
        """Tokens that a prompt and its answer may have together."""

    def admit(self, submit: Submit, now: float) -> Generation:
        """Refuse or tokenise. Raises a RequestError; nothing is kept of a request that is refused."""
        refuse_unsupported(submit.request)
        self.check_token_ids(submit.request)
        request = self._shortened(submit.request) if submit.request.transforms else submit.request
        tokens, _, opening = self.read(request)
        self._check_length(request, len(tokens))
        leader = self._leader(submit, tokens)
        wanted = request.sampling.seed
        seed = (self._entropy() if wanted is None else wanted) & _SEED_MASK
        bad_words = token_words(request.sampling.bad_words, self._plain_tokens)
        form = self._forms.of(request, tokens, opening, seed)
        make = partial(self._choice, form, bad_words)
        dropped = len(submit.request.messages) - len(request.messages)
        return Generation(submit.number, leader, make, count=request.choices, seed=seed, now=now, dropped=dropped)

    def _shortened(self, request: GenerationRequest) -> GenerationRequest:
        """The request with as many of its messages as leave room for an answer."""
        wanted = min(request.stopping.max_tokens or _ANSWER, self.limit // 4)
        room = max(1, wanted, request.stopping.min_tokens)

        def length(messages: tuple[Message, ...]) -> int | None:
            try:
                return len(self.read(msgspec.structs.replace(request, messages=messages)).tokens)
            except ContextLengthExceeded:
                return None

        bounds = {"most": self.limit - room, "most_characters": _CHARACTERS_PER_TOKEN * self.limit}
        return msgspec.structs.replace(request, messages=middle_out(request.messages, length, **bounds))

    def _choice(self, form: Form, bad_words: TokenWords, index: int, sequence: TokenSequence) -> Choice:
        """One of the answers."""
        request = form.request
        sampler = Sampler(
            request.sampling,
            seed=form.seed,
            choice=index,
            prompt=form.prompt,
            bad_words=bad_words,
            vocabulary=self._vocabulary,
        )
        return Choice(
            index,
            sequence,
            sampler,
            partial(self._forms.piece, form),
            reader=self._forms.reader(form, index),
            matcher=None if form.matcher is None else form.matcher.fork(),
            holds_thought=form.holds_thought,
            top_logprobs=request.top_logprobs,
        )

    def _leader(self, submit: Submit, tokens: list[int]) -> TokenSequence:
        request = submit.request
        return TokenSequence(
            submit.number,
            tokens,
            limit=self.limit,
            stopping=request.stopping,
            credit=submit.credit,
            prefill=submit.prefill,
            service_class=request.service_class,
            caller=request.caller,
            shared=request.cache_prompt,
        )

    def _plain_tokens(self, text: str) -> list[int]:
        """Tokens of a text as it stands."""
        return self._backend.tokenize(text, add_special=False, parse_special=False)

    def read(self, request: GenerationRequest) -> Reading:
        """What the prompt is to the model. Raises a RequestError."""
        text, opening = "", ""
        if request.suffix is not None:
            return Reading(self._filling(request, request.suffix), text, opening)
        if isinstance(request.prompt, tuple):
            tokens = list(request.prompt)
        elif request.prompt is not None:
            text = request.prompt
            tokens = self._tokenize(text, "prompt", add_special=request.add_special)
        else:
            text, opening = self._template.prompt(request)
            tokens = self._tokenize(text, "messages")
        if not tokens and request.kind is Kind.GENERATE:
            raise InvalidField("the prompt is empty.", hint="Send at least one token.", param="prompt")
        return Reading(tokens, text, opening)

    def _filling(self, request: GenerationRequest, suffix: str) -> list[int]:
        """A prompt and what comes after the answer, in the order in which most models were trained (prefix first)."""
        fim, prompt = self._backend.fim, request.prompt
        if fim is None or prompt is None:
            why = "this model was not made to fill in." if fim is None else "messages have none."
            raise UnsupportedParameter(f"suffix is not supported: {why}", hint="Leave it out.", param="suffix")
        before = list(prompt) if isinstance(prompt, tuple) else self._plain(prompt, "prompt")
        begins = self._backend.tokenize("", add_special=True, parse_special=False)[:1]
        return [*begins, fim.prefix, *before, fim.suffix, *self._plain(suffix, "suffix"), fim.middle]

    def _plain(self, text: str, param: str) -> list[int]:
        self._check_size(text, param)
        return self._plain_tokens(text)

    def _tokenize(self, text: str, param: str, *, add_special: bool = True) -> list[int]:
        """Tokens of a text, with the special tokens the model wants, which a template may have written already."""
        self._check_size(text, param)
        if not add_special:
            return self._backend.tokenize(text, add_special=False, parse_special=True)
        tokens = self._backend.tokenize(text, add_special=True, parse_special=True)
        bos = self._backend.tokenize(self._backend.bos_text, add_special=False, parse_special=True)
        if len(bos) == 1 and tokens[:2] == bos * 2:
            del tokens[0]
        return tokens or bos[:1]

    def check_token_ids(self, request: GenerationRequest) -> None:
        """Raises InvalidField where a token id is none of this model's."""
        given = {
            "prompt": request.prompt if isinstance(request.prompt, tuple) else (),
            "stop_token_ids": request.stopping.stop_token_ids,
            "logit_bias": tuple(token for token, _ in request.sampling.logit_bias),
        }
        known = range(self._backend.info.n_vocab)
        for param, tokens in given.items():
            stranger = next((token for token in tokens if token not in known), None)
            if stranger is not None:
                hint = f"Use token ids from 0 to {known[-1]}."
                raise InvalidField(f"{param} has {stranger}, which is no token of this model.", hint=hint, param=param)

    def _check_size(self, text: str, param: str) -> None:
        """Refuse a text that cannot fit however it is cut: to tokenise it would keep everybody waiting."""
        if len(text) > _LONG and (least := -(-len(text) // self._longest_piece())) >= self.limit:
            raise self._too_long(f"at least {least}", "", param)

    def _longest_piece(self) -> int:
        """Bytes of the model's longest token; looked up when first needed."""
        if self._longest is None:
            pieces = (self._backend.piece(token, special=True) for token in range(self._backend.info.n_vocab))
            self._longest = max(1, *map(len, pieces))
        return self._longest

    def _check_length(self, request: GenerationRequest, length: int) -> None:
        least = max(1, request.stopping.min_tokens)
        if length + least > self.limit:
            wanted = f" and at least {least} of answer" if least > 1 else ""
            raise self._too_long(str(length), wanted, "messages" if request.prompt is None else "prompt")

    def _too_long(self, length: str, wanted: str, param: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"{TOO_LONG}: it has {length} tokens{wanted}; the model's context here is {self.limit}, answer included.",
            hint="Shorten the conversation, or load the model with a larger context.",
            param=param,
        )


def refuse_unsupported(request: GenerationRequest) -> None:
    """Raises UnsupportedParameter or InvalidField, naming the field this engine cannot honour."""
    refused = {
        "tools": bool(request.tools) and not request.messages and request.tool_choice.mode is not ToolMode.NONE,
        "echo": request.echo,
        "continuation": request.continuation is not None,
        "transforms": not {*request.transforms} <= {MIDDLE_OUT} or bool(request.transforms and not request.messages),
    }
    for param, present in refused.items():
        if present:
            raise UnsupportedParameter(f"{param} is not supported by this engine.", hint="Leave it out.", param=param)
    refuse_shape(request)


def refuse_shape(request: GenerationRequest) -> None:
    """Raises UnsupportedParameter or InvalidField where there is no prompt of text, or there are two."""
    media = (ImagePart, AudioPart, FilePart)
    if any(isinstance(part, media) for message in request.messages for part in message.parts):
        raise UnsupportedParameter("this engine takes text only.", hint="Send text parts.", param="messages")
    if (request.prompt is None) == (not request.messages):
        raise InvalidField("exactly one of messages and prompt must be given.", param="messages")
