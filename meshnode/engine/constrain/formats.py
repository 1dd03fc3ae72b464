"""String formats of JSON Schema as regular expressions. Pure.

Each expression takes no more than its specification allows, and sometimes less: a generator need not be able to write
every e-mail address, but each one it writes must be one. Lengths are bounded where a specification bounds them, so that
labels and fractions end. Sources: RFC 3339 (dates and times; no leap seconds, no year 0), RFC 5321 and 1123 (mail and
host names), RFC 3986 (URIs), RFC 4291 (IPv6), RFC 9562 (UUIDs), RFC 6901 (JSON pointers), RFC 4648 (base 64).
"""

from __future__ import annotations

from collections.abc import Iterator

_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_HOUR = "(?:[01][0-9]|2[0-3])"
_TIME = rf"{_HOUR}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR}:[0-5][0-9])"
_N = "[0-9]{1,6}"
_CLOCK = f"T(?:{_N}H(?:{_N}M(?:{_N}S)?)?|{_N}M(?:{_N}S)?|{_N}S)"
_DURATION = f"P(?:(?:{_N}Y(?:{_N}M(?:{_N}D)?)?|{_N}M(?:{_N}D)?|{_N}D)(?:{_CLOCK})?|{_CLOCK}|{_N}W)"
_LABEL = "[0-9A-Za-z]{1,20}(?:-[0-9A-Za-z]{1,20}){0,2}"
_ATOM = r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~\-]{1,31}"
_HOST = rf"(?:{_LABEL}\.){{0,3}}{_LABEL}"
_EMAIL = rf"{_ATOM}(?:\.{_ATOM}){{0,3}}@(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,24}}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_H = "[0-9A-Fa-f]{1,4}"
_SHORT = "|".join(f"(?:{_H}:){{1,{n}}}(?::{_H}){{1,{7 - n}}}" for n in range(1, 7))
_IPV6 = f"(?:(?:{_H}:){{7}}{_H}|(?:{_H}:){{1,7}}:|{_SHORT}|:(?:(?::{_H}){{1,7}}|:))"
_CHAR = r"(?:[0-9A-Za-z\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
_TAIL = rf"(?:\?(?:{_CHAR}|[/?])*)?(?:#(?:{_CHAR}|[/?])*)?"
_URI = rf"[A-Za-z][0-9A-Za-z+.\-]{{0,30}}:(?://{_HOST}(?::[0-9]{{1,4}})?(?:/{_CHAR}*)*|{_CHAR}+(?:/{_CHAR}*)*){_TAIL}"
_URI_REFERENCE = rf"(?:{_URI}|(?:/(?:{_CHAR}+(?:/{_CHAR}*)*)?)?{_TAIL})"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"


def _uuid(version: str) -> str:
    return f"[0-9A-Fa-f]{{8}}-[0-9A-Fa-f]{{4}}-{version}[0-9A-Fa-f]{{3}}-[89ABab][0-9A-Fa-f]{{3}}-[0-9A-Fa-f]{{12}}"


def _base64(signs: str) -> str:
    return f"(?:[0-9A-Za-z{signs}]{{4}})*(?:[0-9A-Za-z{signs}][AQgw]==|[0-9A-Za-z{signs}]{{2}}[AEIMQUYcgkosw048]=)?"


EXPRESSIONS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": _DURATION,
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "ipvanyaddress": f"(?:{_IPV4}|{_IPV6})",
    "ipv4interface": f"{_IPV4}/(?:[0-9]|[12][0-9]|3[0-2])",
    "ipv6interface": f"{_IPV6}/(?:[0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])",
    "uri": _URI,
    "iri": _URI,
    "uri-reference": _URI_REFERENCE,
    "iri-reference": _URI_REFERENCE,
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]{{0,8}})(?:#|{_POINTER})",
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "byte": _base64("+/"),
    "base64url": _base64("_\\-"),
    **{f"uuid{version}": _uuid(str(version)) for version in range(1, 9)},
}
"""Name -> expression that all of the string must match."""

ANY_TEXT = frozenset({"password", "binary", "path", "file-path", "directory-path", "textarea", "markdown", "html"})
"""Formats that every string has: they say how to show or use it."""

NUMERIC = frozenset({"int64", "uint64", "float", "double", "decimal"})
"""Formats of numbers that say how to store them."""

RANGES = {
    f"{sign}int{bits}": (0 if sign else -(1 << (bits - 1)), (1 << (bits - (0 if sign else 1))) - 1)
    for bits in (8, 16, 32)
    for sign in ("", "u")
}
"""OpenAPI's integer formats that a double holds exactly: name -> least and greatest."""


def names() -> Iterator[str]:
    """Every format that is held, in order, for an error to list."""
    yield from sorted({*EXPRESSIONS, *ANY_TEXT, *NUMERIC, *RANGES})
