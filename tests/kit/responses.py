"""Kept responses for tests, and who keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from meshnode.api.responses.parse import parse_response
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, CallerId, FinishReason, ModelId, RequestId
from meshnode.events import ChoiceFinished, Event, Finished, Started, TextDelta, Usage
from meshnode.gateway.job import Job, JobStatus, NoJobs
from meshnode.storage.vault import absent

SAID: tuple[Event, ...] = (
    Started(5),
    TextDelta("Hel"),
    TextDelta("lo"),
    ChoiceFinished(FinishReason.STOP),
    Finished(Usage(5, 2)),
)


def asked(body: dict[str, Any] | None = None, **fields: Any) -> Ask:
    """A parsed request; of the string ``hi``, unless the body says something else."""
    return parse_response(json.dumps(body or {"input": "hi", **fields}).encode(), Asker(RequestId("r1"), OWNER))


def kept(ask: Ask | None = None, *, events: Sequence[Event] = SAID, **fields: Any) -> Job:
    """A response as it is kept."""
    ask = ask or asked()
    parts: dict[str, Any] = {
        "id": "resp_0a",
        "dialect": "response",
        "principal": OWNER,
        "created": 1_700_000_000,
        "ended": 1_700_000_009,
        "status": JobStatus.COMPLETED,
        "model": ModelId("tiny"),
        "background": ask.keep.background,
    }
    return Job(request=ask.request, echo=json.dumps(dict(ask.echo)), events=tuple(events), **(parts | fields))


@dataclass
class SomeJobs(NoJobs):
    """Jobs that are there to be looked at."""

    jobs_: list[Job] = field(default_factory=list)
    keeps: bool = True  # type: ignore[misc]  # the base says never

    async def job(self, principal: CallerId, id_: str) -> Job:
        """The one of that principal and id."""
        found = [job for job in self.jobs_ if (job.principal, job.id) == (principal, id_)]
        if not found:
            raise absent("job", id_)
        return found[0]
