"""An engine loop driven by hand: requests in, steps one by one, what each request saw."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

from meshnode.domain import (
    CallerId,
    FinishReason,
    GenerationRequest,
    Message,
    ModelId,
    RequestId,
    Role,
    Sampling,
    ServiceClass,
    Stopping,
    TextPart,
)
from meshnode.engine.backend import Backend
from meshnode.engine.loop import Loop
from meshnode.engine.pipe import UNLIMITED, Cancel, Grant, Step, Submit
from meshnode.events import ChoiceFinished, Event, Failed, Finished, TextDelta

GREEDY = Sampling(temperature=0.0)


def asking(
    prompt: str | tuple[int, ...],
    *,
    sampling: Sampling = GREEDY,
    stopping: Stopping | None = None,
    service_class: ServiceClass = ServiceClass.OWNER,
    choices: int = 1,
    caller: str | None = None,
    cache_prompt: bool = True,
) -> GenerationRequest:
    """A request that continues a text or tokens; at most 32 of them unless told otherwise."""
    return GenerationRequest(
        id=RequestId("test"),
        model=ModelId("test"),
        prompt=prompt,
        sampling=sampling,
        stopping=stopping or Stopping(max_tokens=32),
        service_class=service_class,
        choices=choices,
        caller=CallerId(caller or service_class.name),
        cache_prompt=cache_prompt,
    )


def chatting(text: str, *, stopping: Stopping | None = None) -> GenerationRequest:
    """A request with one message."""
    message = Message(role=Role.USER, parts=(TextPart(text=text),))
    return GenerationRequest(
        id=RequestId("test"),
        model=ModelId("test"),
        messages=(message,),
        sampling=GREEDY,
        stopping=stopping or Stopping(max_tokens=32),
    )


class Driven:
    """A loop whose clock advances by a millisecond each time it is looked at, or by hand."""

    def __init__(
        self,
        backend: Backend,
        *,
        step_tokens: int = 512,
        queue_limit: int = 1024,
        host_bytes: int = 0,
        complain: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.now = 0.0
        self.steps: list[Step] = []
        self._numbers = itertools.count(1)
        self._seeds = itertools.count(1000)
        self.loop = Loop(
            backend,
            clock=self._tick,
            entropy=lambda: next(self._seeds),
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            step_tokens=step_tokens,
            queue_limit=queue_limit,
            host_bytes=host_bytes,
            complain=complain,
        )

    def submit(self, request: GenerationRequest, credit: int = UNLIMITED, prefill: int = UNLIMITED) -> int:
        """Hand a request in; its number."""
        number = next(self._numbers)
        self.loop.handle(Submit(number=number, request=request, credit=credit, prefill=prefill))
        return number

    def grant(self, number: int, tokens: int = 0, prefill: int = 0) -> None:
        """Allow more positions of its answer, and of its prompt."""
        self.loop.handle(Grant(number=number, tokens=tokens, prefill=prefill))

    def cancel(self, number: int) -> None:
        """Cancel a request."""
        self.loop.handle(Cancel(number=number))

    def step(self) -> Step | None:
        """One step."""
        step = self.loop.step()
        if step is not None:
            self.steps.append(step)
        return step

    def run(self, limit: int = 100_000) -> Driven:
        """Step until the loop is idle."""
        for _ in range(limit):
            if self.loop.idle:
                return self
            self.step()
        raise AssertionError(f"not idle after {limit} steps")

    def ask(self, request: GenerationRequest) -> str:
        """The text of one request's answer, with nothing else to do."""
        number = self.submit(request)
        return self.run().text(number)

    def events(self, number: int) -> list[Event]:
        """What one request saw so far."""
        return [event for step in self.steps for owner, event in step.events if owner == number]

    def text(self, number: int, choice: int = 0) -> str:
        """The text of its answer so far, or of another one of its answers."""
        spoken = (event for event in self.events(number) if isinstance(event, TextDelta))
        return "".join(event.text for event in spoken if event.choice == choice)

    def tokens(self, number: int) -> list[int]:
        """The tokens of its answer so far."""
        return [t for event in self.events(number) if isinstance(event, TextDelta) for t in event.token_ids]

    def reason(self, number: int) -> FinishReason | None:
        """Why its answer ended."""
        return next((event.reason for event in self.events(number) if isinstance(event, ChoiceFinished)), None)

    def finished(self, number: int) -> Finished:
        """Its last event, which must be ``Finished``."""
        last = self.events(number)[-1]
        assert isinstance(last, Finished), last
        return last

    def failed(self, number: int) -> Failed:
        """Its last event, which must be ``Failed``."""
        last = self.events(number)[-1]
        assert isinstance(last, Failed), last
        return last

    def kinds(self, number: int) -> list[str]:
        """The kinds of its events, repetitions left out."""
        return [kind for kind, _ in itertools.groupby(type(event).__name__ for event in self.events(number))]

    def _tick(self) -> float:
        self.now += 0.001
        return self.now
