"""What a kept request is."""

from __future__ import annotations

import msgspec
import pytest

from meshnode.domain import OWNER, FinishReason, GenerationRequest, ModelId, RequestId
from meshnode.events import ChoiceFinished, Finished, TextDelta, Usage
from meshnode.gateway.job import Job, JobStatus


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_is_over_once_nothing_can_be_added(status: JobStatus) -> None:
    assert status.over is (status not in (JobStatus.QUEUED, JobStatus.IN_PROGRESS))


def test_a_job_survives_msgpack() -> None:
    request = GenerationRequest(id=RequestId("r1"), model=ModelId("tiny"), prompt=(1, 2))
    events = (TextDelta("hi"), ChoiceFinished(FinishReason.STOP), Finished(Usage(2, 1)))
    job = Job(id="resp_1", dialect="responses", principal=OWNER, request=request, created=7, events=events)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(job), type=Job) == job
