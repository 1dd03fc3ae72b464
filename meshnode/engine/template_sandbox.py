"""The sandbox that a model's template runs in: what it finds, and what it may not do.

jinja2's immutable sandbox, as ``transformers`` uses it, and where templates in use want more, what llama.cpp's engine
gives them: a missing value may be asked for its fields and put together with text, ``tojson`` takes what a filter
yields, ``safe`` marks nothing (nothing is escaped), and a list may grow. The lists of a conversation are made anew
for each rendering, so that no template can change what the next one sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

MAX_BITS = 4096
"""Size of integers that a template may multiply or divide; larger ones would keep the CPU in one instruction."""
MAX_MESSAGE = 500
"""Characters that a template may say when it refuses."""
_GROWING = frozenset({"append", "extend", "insert", "pop"})
"""What a template may do to a list."""
_STRFTIME = re.compile(r"(?:[^%]|%[-_0^#]?[A-Za-z%])*")


class RefusedError(Exception):
    """The template called ``raise_exception``."""


class _Missing(jinja2.ChainableUndefined):
    """A value that is not there: its fields are missing too, and beside text it is no text."""

    def __add__(self, other: Any) -> Any:
        return other if isinstance(other, str) else super().__add__(other)

    def __radd__(self, other: Any) -> Any:
        return other if isinstance(other, str) else super().__radd__(other)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, with integers kept to a size that the CPU is done with at once."""

    intercepted_binops = frozenset({"*", "**", "/", "//", "%"})

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As jinja2 has it, but lists may grow."""
        return (isinstance(obj, list) and attr in _GROWING) or super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        """What may not be reached is an error at the first use; a missing value would be passed over."""
        return jinja2.StrictUndefined(f"access to {attribute!r}", exc=jinja2.exceptions.SecurityError)

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


def _as_it_is(value: object) -> object:
    """``safe`` where nothing is escaped; jinja2's own would make every text put beside it escape."""
    return value


def _listed(value: object) -> object:
    """What a filter yields, as a list."""
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None, **how: Any) -> str:
    """``tojson`` as ``transformers`` has it; jinja2's own escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, default=_listed, **how)


def _raise_exception(message: object = "") -> NoReturn:
    """What templates call to refuse a conversation."""
    raise RefusedError(str(message)[:MAX_MESSAGE])


def environment(now: Callable[[], datetime]) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """What a template finds around it; ``now`` is local time."""

    def strftime_now(form: str) -> str:
        if len(form) > 100 or not _STRFTIME.fullmatch(form):
            raise jinja2.exceptions.SecurityError("a date format with field widths")
        return now().strftime(form)

    around = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation], loader=None
    )
    del around.globals["lipsum"], around.filters["random"]
    around.globals |= {"raise_exception": _raise_exception, "strftime_now": strftime_now}
    around.filters |= {"tojson": _tojson, "safe": _as_it_is}
    around.undefined = _Missing
    return around
