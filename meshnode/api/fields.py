"""Which fields a request may have, and what is said when one is wrong. Pure.

A dialect declares what it takes as a ``msgspec.Struct`` (types and ranges; the honoured and the harmless fields) and,
beside it, a table of :class:`Refusal` for what is documented but not served yet. Everything else is unknown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from meshnode.api.strictjson import describe, shorten
from meshnode.errors import InvalidField, UnknownField, UnsupportedParameter

T = TypeVar("T")

CONTENT_FIELDS: Final = frozenset({
    "messages", "prompt", "input", "suffix", "stop", "prediction", "chat_template_kwargs", "metadata", "user",
    "variables", "query", "documents", "content", "text",
    "instructions", "client_metadata",
    "system", "stop_sequences",
})  # fmt: skip
"""Top-level fields whose values may be what somebody wrote: an error names their kind, never their value."""


class Refusal(NamedTuple):
    """A documented field without effect yet: the values that would change nothing pass, the rest is refused."""

    neutral: Callable[[object], bool]
    allowed: str


def only(*values: object) -> Refusal:
    """Only these values change nothing."""

    def neutral(value: object) -> bool:
        return any(value == one and isinstance(value, bool) is isinstance(one, bool) for one in values)

    return Refusal(neutral, " or ".join(shorten(value) for value in values))


def never() -> Refusal:
    """No value but null changes nothing."""
    return Refusal(lambda value: False, "")


def without_effect() -> Refusal:
    """Any value: it only tunes a field that is refused itself."""
    return Refusal(lambda value: True, "anything")


def check_names(
    fields: Mapping[str, object], known: type[msgspec.Struct], refused: Mapping[str, Refusal], *, path: str = ""
) -> None:
    """Raises UnknownField, with the nearest name, or UnsupportedParameter. ``null`` counts as absent."""
    for name, value in fields.items():
        if name in known.__struct_encode_fields__:
            continue
        full = join(path, name)
        if name not in refused:
            raise _unknown(full, name, (*known.__struct_encode_fields__, *refused))
        if value is not None and not refused[name].neutral(value):
            allowed = refused[name].allowed
            raise unsupported(full, f"It may be left out or be {allowed}." if allowed else "Leave it out.")


def unsupported(path: str, hint: str = "Leave it out.", *, what: str = "") -> UnsupportedParameter:
    """The error for a documented field, or for one use of it (``what``), that this node cannot honour yet."""
    return UnsupportedParameter(f"{path}{what} is not supported by this node yet.", hint=hint, param=path)


def invalid(path: str, value: object, allowed: str) -> InvalidField:
    """The error for a wrong type or value; what somebody wrote is never quoted."""
    shown = describe(value) if _is_content(path, value) else shorten(value)
    return InvalidField(f"{path}: {shown} is not allowed.", hint=f"Allowed: {allowed}.", param=path)


def convert(fields: Mapping[str, object], kind: type[T], *, path: str = "") -> T:
    """``fields`` as the struct ``kind``. Raises InvalidField naming the field, its value and what is allowed."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        expected, _, place = str(error).partition(" - at ")
        missing = re.fullmatch(r"Object missing required field `(\w+)`", expected)
        where = place.strip("`").removeprefix("$").removeprefix(".").partition("[...]")[0]
        if missing:
            name = join(path, join(where, missing[1]))
            raise InvalidField(f"{name} is missing.", hint=f"Allowed: {_allowed(kind, missing[1])}.", param=name)
        raise invalid(join(path, where), _at(fields, where), _allowed_at(kind, where) or _plain(expected))


def join(path: str, name: str) -> str:
    """A dotted path one field longer."""
    return f"{path}.{_clean(name)}" if path and name else path or _clean(name)


def number(low: float, high: float) -> msgspec.Meta:
    """Annotation of a float in a range."""
    return msgspec.Meta(ge=low, le=high, description=f"a number from {low:g} to {high:g}")


def integer(low: int, high: int) -> msgspec.Meta:
    """Annotation of an int in a range."""
    return msgspec.Meta(ge=low, le=high, description=f"a whole number from {low} to {high}")


def text(limit: int) -> msgspec.Meta:
    """Annotation of a string of at most ``limit`` characters."""
    return msgspec.Meta(max_length=limit, description=f"a string of at most {limit} characters")


def _unknown(full: str, name: str, known: Iterable[str]) -> UnknownField:
    nearest = difflib.get_close_matches(name, tuple(known), n=1, cutoff=0.6)
    hint = f"Did you mean {nearest[0]}?" if nearest else "Leave it out."
    return UnknownField(f"{full} is not a documented field.", hint=hint, param=full)


def _is_content(path: str, value: object) -> bool:
    if re.split(r"[.\[]", path)[0] not in CONTENT_FIELDS:
        return isinstance(value, dict | list)
    is_word = isinstance(value, str) and re.fullmatch(r"[A-Za-z_]{1,24}", value) is not None
    return not (is_word and path.endswith((".role", ".type")))


def _at(value: Any, path: str) -> object:
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
    return value


def _allowed_at(kind: type, where: str) -> str:
    """What the struct, or one inside it, allows at a place: what msgspec says of a wrong word only repeats it."""
    top, _, rest = where.partition(".")
    hint = get_type_hints(kind, include_extras=True).get(top.partition("[")[0])
    inner = next((one for one in (hint, *get_args(hint)) if _is_struct(one)), None)
    return _allowed_at(inner, rest) if inner is not None and rest else _describe(hint)


def _is_struct(hint: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _allowed(kind: type, name: str) -> str:
    return _describe(get_type_hints(kind, include_extras=True).get(name))


def _describe(hint: object) -> str:
    """The description in the type's annotation, or its name in JSON's words."""
    if get_origin(hint) is Annotated:
        metas = [meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)]
        return (metas[0].description or "") if metas else ""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    words: dict[object, str] = {bool: "true or false", str: "a string", dict: "an object", list: "an array"}
    if hint in words:
        return words[hint]
    if get_origin(hint) in words:
        return words[get_origin(hint)]
    return " or ".join(filter(None, (_describe(part) for part in get_args(hint) if part is not type(None))))


def _plain(expected: str) -> str:
    return expected.removeprefix("Expected ").partition(", got")[0].replace("`", "").replace(" | null", "")


def _clean(name: str) -> str:
    safe = "".join(char if char.isprintable() else "?" for char in name)
    return safe if len(safe) <= 64 else safe[:63] + "…"
