"""The door to llguidance: which tokens may come next, so that the text becomes what was asked for.

The library (an Earley parser over a lexer of regular-expression derivatives, with a mask over a trie of the vocabulary)
was measured beside llama.cpp's grammars, which keep no limits, know fewer keywords and hold some loosely, and kept.
Schemas reach it in canonical form only (:mod:`schema`), grammars in GBNF rewritten (:mod:`gbnf`).

White space in JSON is what models write by habit: at each place where it may stand, one space, or a line break with up
to 32 spaces or 8 tabs. So a model is neither forced into an unfamiliar form nor free to idle in white space for ever.
Escapes in strings are the short ones: with ``\\u0061`` a model could write a property's name a second time in disguise.

Grammar text for :meth:`Constrainer.compile_grammar` is the library's variant of Lark:

- ``start: a | b`` and further rules, one a line; small letters name rules, CAPITALS name regular expressions, which may
  not recurse. Comments begin with ``//``.
- ``"text"`` is literal text (escapes as in JSON), ``/regex/`` a regular expression, ``( ) | ? * + {m,n}`` as usual.
- Lexemes are greedy: ``/[a-z]*/ "b"`` never matches, as the first part takes every b. For text up to a mark write
  ``body[lazy]: /(.|\\n)*</mark>/``, or ``body[suffix="</mark>"]: /(.|\\n)*/``.
- ``<[17]>`` is token 17, ``<[17,20-30]>`` one of several: so are control tokens written, whose text no literal matches.
  Tokens that are no control tokens (Qwen's ``<tool_call>``) are matched by their text, as a token or letter by letter.
- :meth:`Constrainer.json_rule` gives ``%json {…}`` for a schema, which stands where a rule's name may stand.

Forced calls in Qwen's form, one or more, for one function with parameters ``schema``::

    rule = constrainer.json_rule(schema)
    start: call ("\\n" call)*
    call: "<tool_call>\\n{\\"name\\": \\"f\\", \\"arguments\\": " arguments "}\\n</tool_call>"
    arguments: <rule>

In Mistral's form, where ``[TOOL_CALLS]`` is control token 9: ``start: <[9]> "f" "[ARGS]" arguments``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from meshnode.domain import Constraint, ConstraintKind
from meshnode.engine.constrain.document import load
from meshnode.engine.constrain.gbnf import to_lark
from meshnode.engine.constrain.patterns import escaped, rewrite
from meshnode.engine.constrain.refuse import SIMPLER, not_held, too_complex, wrong
from meshnode.engine.constrain.schema import canonical
from meshnode.errors import RequestError

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_CHOICES = 10_000
"""Texts to choose from."""
_OPTIONS: JsonCompileOptions = {
    "whitespace_pattern": r"[ ]|\r?\n([ ]{0,32}|\t{0,8})",
    "json_allowed_escapes": 'nrbtf\\"',
}
_LIMITS = LLParserLimits(
    max_items_in_row=5_000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=500_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    precompute_large_lexemes=False,
    verbose_errors=False,
)
"""Bound time and memory: a compilation to about a second, a step to tens of milliseconds, states to 100 MB."""


class Vocabulary(NamedTuple):
    """What is known of a model's tokens. ``ends``: every token that ends generation; ``eos`` the first of them.

    ``piece(token, special)`` gives a token's bytes, of control tokens only when ``special``; ``tokenize`` the tokens
    of some text, so that text that must come is written as the model would write it.
    """

    n_vocab: int
    piece: Callable[[int, bool], bytes]
    ends: Collection[int]
    eos: int
    is_control: Callable[[int], bool]
    tokenize: Callable[[str], Sequence[int]]


class Matcher:
    """How far one text has come under a constraint."""

    def __init__(self, inner: LLMatcher, vocabulary: Vocabulary, what: str) -> None:
        self._inner = inner
        self._vocabulary = vocabulary
        self._what = what
        self._bits = np.zeros(-(-vocabulary.n_vocab // 32), dtype=np.uint32)
        self._done = False

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens may come next, shape ``(n_vocab,)``; valid until the next call.

        Where the text may end, every end token may. Raises InvalidField where the matcher ran into a limit, or where
        the model has no token that goes on from here.
        """
        self._inner.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=self._vocabulary.n_vocab)
        return bits.view(np.bool_)

    def accept(self, token: int) -> None:
        """The token was chosen. Raises InvalidField where the mask did not have it, or a limit was met."""
        if token in self._vocabulary.ends and self._inner.is_accepting():
            self._done = True
        elif not self._inner.consume_token(token):
            if "satisfy the grammar" not in self._inner.get_error():
                self._check()
            raise wrong(self._what, f"token {token} does not continue the text")

    def fork(self) -> Matcher:
        """Another text that has come as far, for a further choice."""
        other = Matcher(self._inner.deep_copy(), self._vocabulary, self._what)
        other._done = self._done
        return other

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete, perhaps not for the last time."""
        return self._done or self._inner.is_accepting()

    @property
    def ended(self) -> bool:
        """Whether nothing may follow but an end token: the answer is complete."""
        return self._done or (self._inner.is_stopped() and not self._inner.is_error())

    def forced(self) -> tuple[int, ...]:
        """Tokens that must come next whatever the model thinks; none where that is not known."""
        return () if self.ended else tuple(self._inner.compute_ff_tokens())

    def _check(self) -> None:
        if self._inner.is_error():
            reason = _first_line(self._inner.get_error())
            if "NoExtension" in reason:
                raise wrong(self._what, "no text that this model can write goes on from here")
            raise too_complex(self._what, reason)


class Constrainer:
    """Constraints for one loaded model. The vocabulary's trie is built when first needed."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._built: LLTokenizer | None = None

    def compile(self, constraint: Constraint, *, param: str = "response_format") -> Matcher:
        """The matcher of a constraint. ``param`` names the request's field at fault in errors.

        Raises InvalidField for a constraint that is wrong or too complex, UnsupportedParameter for one that cannot be
        held; both name the keyword and its place.
        """
        try:
            return self._matcher(self._grammar(constraint), constraint.kind.value)
        except RequestError as error:
            error.param = param
            raise

    def compile_grammar(self, source: str) -> Matcher:
        """The matcher of a grammar in the library's own text; see the top of this module. Raises InvalidField."""
        return self._matcher(LLMatcher.grammar_from_lark(source), "grammar")

    def json_rule(self, schema: str, *, strict: bool = False, what: str = "json_schema") -> str:
        """A schema as ``%json {…}``, to stand in a grammar where a rule's name may stand. Raises as :meth:`compile`."""
        return "%json " + json.dumps({**canonical(schema, what, strict=strict), "x-guidance": _OPTIONS})

    def _grammar(self, constraint: Constraint) -> str:
        kind, source = constraint.kind, constraint.source
        if kind is ConstraintKind.JSON_OBJECT:
            source = '{"type": "object"}'
        if kind in (ConstraintKind.JSON_OBJECT, ConstraintKind.JSON_SCHEMA):
            schema = canonical(source, kind.value, strict=constraint.strict)
            return LLMatcher.grammar_from_json_schema(schema, overrides=_OPTIONS)
        if kind is ConstraintKind.REGEX:
            return LLMatcher.grammar_from_regex(rewrite(source, "regex", whole=True))
        if kind is ConstraintKind.CHOICE:
            return LLMatcher.grammar_from_regex(_choices(source))
        return LLMatcher.grammar_from_lark(to_lark(source, "grammar"))

    def _matcher(self, grammar: str, what: str) -> Matcher:
        inner = LLMatcher(self._tokenizer(), grammar, log_level=0, limits=_LIMITS)
        if inner.is_error():
            raise _refused(_first_line(inner.get_error()), what)
        matcher = Matcher(inner, self._vocabulary, what)
        matcher.mask()
        return matcher

    def _tokenizer(self) -> LLTokenizer:
        if self._built is None:
            wrapper = TokenizerWrapper(_Tokens(self._vocabulary))
            ends = [self._vocabulary.eos, *(token for token in self._vocabulary.ends if token != self._vocabulary.eos)]
            self._built = LLTokenizer(wrapper, eos_token=ends)
        return self._built


class _Tokens:
    """The vocabulary as the library's wrapper reads it. A control token is marked, so that no text matches it.

    Text that must come is asked for as tokens, and the mask then has nothing but the first of them: they must be the
    text, byte for byte. Some tokenizers put a space before whatever they are given. Where that, or anything else, comes
    of a text, the longest tokens that fit are taken instead.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.eos_token_id = vocabulary.eos
        self.bos_token_id = None
        self._tokenize = vocabulary.tokenize
        special = {token for token in range(vocabulary.n_vocab) if vocabulary.is_control(token)} | set(vocabulary.ends)
        self.special_token_ids = sorted(special)
        self.tokens = [vocabulary.piece(token, token in special) for token in range(vocabulary.n_vocab)]

    def __call__(self, text: bytes) -> list[int]:
        tokens = list(self._tokenize(text.decode()))
        return tokens if b"".join(self.tokens[token] for token in tokens) == text else self._longest(text)

    def _longest(self, text: bytes) -> list[int]:
        found: list[int] = []
        at = 0
        while at < len(text):
            ends = range(min(len(text), at + self._most), at, -1)
            end = next((end for end in ends if text[at:end] in self._by_text), None)
            if end is None:
                break
            found.append(self._by_text[text[at:end]])
            at = end
        return found

    @cached_property
    def _by_text(self) -> dict[bytes, int]:
        special = set(self.special_token_ids)
        return {piece: token for token, piece in enumerate(self.tokens) if piece and token not in special}

    @cached_property
    def _most(self) -> int:
        return max(map(len, self._by_text), default=0)


def _choices(source: str) -> str:
    """The expression of a JSON list of texts."""
    listed = load(source, "choice")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) for each in listed):
        raise wrong("choice", "must be a JSON list of texts, with at least one")
    if len(listed) > MAX_CHOICES:
        raise too_complex("choice", f"{len(listed)} texts; {MAX_CHOICES} are the most")
    return "|".join(map(escaped, dict.fromkeys(listed)))


def _first_line(error: str) -> str:
    return error.strip().partition("\n")[0][:300].rstrip(".") or "the text cannot go on"


def _refused(reason: str, what: str) -> RequestError:
    """The error for what the library would not compile: too much of it, or something it does not hold."""
    if re.search("fuel|too (?:large|many|complex|big|deep)|limit|max is|Unable to determine", reason):
        return too_complex(what, reason)
    return not_held(what, reason, SIMPLER)
