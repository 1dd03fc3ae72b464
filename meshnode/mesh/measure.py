"""What one answer costs and how it ends, observed event by event into the node's metrics."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from meshnode.domain import ModelId, RequestId
from meshnode.events import Event, Failed, Finished, Started, decoded_tokens
from meshnode.observe import Metrics


class Measure:
    """One answer under way, as a context: counts as processing until it is left. ``clock`` in monotonic seconds.

    Tokens of an answer that does not end well are counted as far as they were delivered.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float], *, request: RequestId, model: ModelId) -> None:
        self._metrics = metrics
        self._clock = clock
        self._request = request
        self.model = model
        """Its label; another one once another model is tried."""
        self._began = clock()
        self._prompt_tokens = 0
        self._delivered = 0
        self._queue_ms = 0.0
        self._outcome = "cancelled"
        self.first_token_s: float | None = None
        """From the request's arrival to its first text."""

    def __enter__(self) -> Self:
        self._metrics.requests_processing.inc()
        return self

    def observe(self, event: Event) -> None:
        """Take note of an event that is being handed to the caller."""
        if isinstance(event, Started):
            self._prompt_tokens = event.prompt_tokens
        elif isinstance(event, Finished):
            self._outcome = "ok"
            self._queue_ms = event.timings.queue_ms
            self._prompt_tokens, self._delivered = event.usage.prompt_tokens, event.usage.completion_tokens
        elif isinstance(event, Failed):
            self._outcome = event.code
        elif tokens := decoded_tokens(event):
            self._delivered += tokens
            if self.first_token_s is None:
                self.first_token_s = self._clock() - self._began
                self._metrics.time_to_first_token.observe(self.first_token_s)

    def refused(self, code: str) -> None:
        """It never became an answer."""
        self._outcome = code

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        metrics = self._metrics
        metrics.requests_processing.dec()
        metrics.requests_total.labels(model=self.model, outcome=self._outcome).inc()
        metrics.prompt_tokens_total.inc(self._prompt_tokens)
        metrics.completion_tokens_total.inc(self._delivered)
        structlog.get_logger().info(
            "request_ended",
            request=self._request,
            model=self.model,
            outcome=self._outcome,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._delivered,
            queue_ms=round(self._queue_ms, 1),
            first_token_s=None if self.first_token_s is None else round(self.first_token_s, 3),
            total_s=round(self._clock() - self._began, 3),
        )
