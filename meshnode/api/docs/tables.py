"""Tables in Markdown, made from what validates and answers: fields, endpoints, errors, headers, settings. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from meshnode import settings
from meshnode.api.errors import retry_after
from meshnode.api.openapi.document import HEADERS, codes, error_statuses, first_sentence
from meshnode.api.openapi.effects import no_effect, reason, refusals
from meshnode.api.openapi.endpoint import Access, Endpoint
from meshnode.api.openapi.meanings import meaning
from meshnode.api.openapi.schemas import Schemas
from meshnode.client import Client

_WHO: Final[Mapping[Access, str]] = {
    Access.OPEN: "anybody",
    Access.KEY: "loopback, or a key",
    Access.OWNER: "the owner",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars inside cells escaped."""
    lines = [list(head), ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


class Tables:
    """The tables that a page may ask for, over the endpoints of the API."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        bodies = [body for each in endpoints for body in each.bodies]
        self._schemas = Schemas(bodies, ())
        self._bodies = {kind.__name__: kind for kind in bodies}

    def all(self) -> dict[str, Callable[[str], str]]:
        """By the name that a page uses."""
        return {
            "fields": self.fields,
            "no effect": self.no_effect,
            "refused": self.refused,
            "endpoints": self.endpoints,
            "errors": errors,
            "headers": headers,
            "client": client_methods,
            "settings": lambda _: settings.markdown_table(),
        }

    def fields(self, body: str) -> str:
        """The fields of a body that have an effect: what each may be and does."""
        kind = self._bodies[body]
        rows = [
            (f"`{name}`", self._schemas.allowed[kind, name], meaning(kind, name))
            for name in self._properties(kind)
            if name not in no_effect(kind) and name not in refusals(kind)
        ]
        return table(("field", "may be", "what it does"), rows)

    def no_effect(self, body: str) -> str:
        """The fields of a body that are taken and change nothing."""
        found = no_effect(self._bodies[body])
        return table(("field", "why it has no effect"), [(f"`{name}`", f"{why}.") for name, why in found.items()])

    def refused(self, body: str) -> str:
        """The documented fields of a body that are not served."""
        kind = self._bodies[body]
        rows = [
            (f"`{name}`", f"left out, or {refusal.allowed}" if refusal.allowed else "left out", _why(kind, name))
            for name, refusal in refusals(kind).items()
        ]
        return table(("field", "may be", "why it is refused, or what it would do"), rows)

    def endpoints(self, room: str) -> str:
        """Those under one heading, or all."""
        rows = [
            (f"`{each.method} {each.path}`", each.summary, _WHO[each.access])
            for each in self._endpoints
            if room in ("", each.room)
        ]
        return table(("endpoint", "what it does", "for whom"), rows)

    def _properties(self, kind: type) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._schemas.component(kind)["properties"]
        return found


def _why(kind: type, name: str) -> str:
    return f"{why}." if (why := reason(kind, name)) else meaning(kind, name)


def errors(_: str = "") -> str:
    """Every error that a client may meet."""
    rows = []
    for status in error_statuses():
        for code, about in codes(status):
            wait = retry_after(code)
            rows.append((str(status), f"`{code}`", about, f"after {wait:g} s" if wait is not None else ""))
    return table(("status", "code", "what it means", "try again"), rows)


def client_methods(_: str = "") -> str:
    """The typed client's methods; both clients have the same."""
    rows = []
    for name, method in vars(Client).items():
        if not name.startswith("_"):
            arguments = ", ".join(list(inspect.signature(method).parameters)[1:])
            rows.append((f"`{name}({arguments})`", first_sentence(method)))
    return table(("method", "what it does"), rows)


def headers(_: str = "") -> str:
    """What answers carry."""
    return table(("header", "what it says"), [(f"`{name}`", about) for name, about in HEADERS.items()])
