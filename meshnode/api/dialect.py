"""What one way to ask and to be answered consists of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from meshnode.api.context import ApiContext
from meshnode.api.render import Heading, Renderer
from meshnode.api.schema import Ask, Asker
from meshnode.api.voice import OPENAI, Voice
from meshnode.gateway.job import Job
from meshnode.gateway.principal import Principal


class MakeRenderer(Protocol):
    """A renderer's class."""

    def __call__(self, heading: Heading, *, include_usage: bool, echo: Mapping[str, Any] = ...) -> Renderer: ...


class Pending(NamedTuple):
    """What is said at once of a request that is answered in the background."""

    status: int
    body: Mapping[str, Any]


class Dialect(NamedTuple):
    """One way to ask and to be answered.

    ``name`` is what a kept answer remembers it by, ``prefix`` begins the answers' ids. ``prepare`` completes a request
    with what the node keeps for the principal (an earlier answer, say), before it is carried out. ``pending`` makes
    what is said at once of a request that is answered in the background; without one it is a job's own shape.
    """

    name: str
    prefix: str
    parse: Callable[[bytes, Asker], Ask]
    renderer: MakeRenderer
    voice: Voice = OPENAI
    prepare: Callable[[ApiContext, Principal, Ask], Awaitable[Ask]] | None = None
    pending: Callable[[Heading, Ask, Job], Pending] | None = None
