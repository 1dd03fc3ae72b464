"""The shape of an answer under way, as ``api`` sees it: events, and the road they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from meshnode.domain import GenerationRequest, ModelId, Record
from meshnode.events import Event


class Route(Record, frozen=True):
    """Which road a request took: ``kind`` is ``local`` or ``peer``, ``reason`` says why in a few words."""

    kind: str
    model: ModelId
    node: str
    attempts: int = 1
    reason: str = ""


class Answer(Protocol):
    """Events of one request, closed by exactly one ``Finished`` or ``Failed``.

    Reading is what lets the engine go on: a reader that stops stops its own generation after a bounded number
    of tokens, nobody else's.
    """

    @property
    def route(self) -> Route:
        """Where this answer comes from."""

    def __aiter__(self) -> AsyncIterator[Event]: ...


class Dispatcher(Protocol):
    """Carries out requests."""

    def open(self, request: GenerationRequest) -> AbstractAsyncContextManager[Answer]:
        """Begin one answer. Raises a RequestError or ServingError when nothing can take the request.

        Leaving the block frees the engine's slot within one step, whether or not the answer was whole.
        """
