"""What is left of a request's bound on its cost, over all attempts at it. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from meshnode.domain import GenerationRequest
from meshnode.errors import CapabilityUnavailable
from meshnode.events import Event
from meshnode.mesh.asker import Costing
from meshnode.wire.fields import Prices


class Budget:
    """Of one request. An attempt that failed before its first word may have cost something all the same."""

    def __init__(self) -> None:
        self._spent = 0

    def within(self, request: GenerationRequest, prices: Prices) -> GenerationRequest:
        """The request, allowed no more than is left. Raises CapabilityUnavailable when that pays for none."""
        if request.max_cost_uc is None or not self._spent:
            return request
        left = request.max_cost_uc - self._spent
        if left < max(prices.request_uc, 1):
            what = f"{self._spent} µc of max_cost went into attempts that failed; the rest pays for no other."
            raise CapabilityUnavailable(what, hint="Allow more.", param="max_cost")
        return msgspec.structs.replace(request, max_cost_uc=left)

    @asynccontextmanager
    async def spending(self, answer: AbstractAsyncContextManager[Costing]) -> AsyncIterator[AsyncIterator[Event]]:
        """An attempt, what it cost being counted when it is left."""
        async with answer as events:
            try:
                yield events
            finally:
                self._spent += events.cost_uc
