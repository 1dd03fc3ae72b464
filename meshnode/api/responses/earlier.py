"""A request completed with what the node keeps: the response it goes on from, the items it refers to.

A session is continued where ``store`` is asked for in so many words: that OpenAI keeps every response by default does
not mean that something should stand before what a request holds. Where nothing is kept, what asks for keeping is
refused by name, and the default is not to keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from meshnode.api.context import ApiContext
from meshnode.api.responses.items import messages
from meshnode.api.responses.parse import refers
from meshnode.api.responses.render import PREFIX
from meshnode.api.responses.stored import DIALECT, input_items, response_of
from meshnode.api.schema import Ask
from meshnode.api.sessions import in_session
from meshnode.domain import CallerId, Message
from meshnode.errors import InvalidField, NotFound, UnsupportedParameter
from meshnode.gateway.job import Job, Jobs
from meshnode.gateway.principal import Principal

MOST_REFERENCES: Final = 1024


async def prepare(context: ApiContext, principal: Principal, asked: Ask) -> Ask:
    """The request with all it needs. Raises InvalidField, or UnsupportedParameter where nothing is kept."""
    if not context.jobs.keeps:
        return _unkept(asked)
    echo = dict(asked.echo)
    said: list[dict[str, Any]] = echo["input"]
    begin = len(asked.request.messages) - echo.pop("own")
    head, own = asked.request.messages[:begin], asked.request.messages[begin:]
    if refers(said):
        echo["input"] = await _referred(context.jobs, principal.caller, said)
        own = messages(echo["input"])
    previous = echo["response"]["previous_response_id"]
    before = () if previous is None else await _before(context.jobs, principal.caller, previous)
    request = msgspec.structs.replace(asked.request, messages=(*head, *before, *own))
    asked = asked._replace(request=request)
    if echo.pop("asked_to_store") is True and previous is None:
        asked = await in_session(context, principal, asked)
    if echo["response"]["instructions"] is not None:
        echo["instructions_at"] = asked.request.messages.index(head[-1])
    if not asked.keep.store:
        del echo["input"]
    return asked._replace(echo=echo)


def _unkept(asked: Ask) -> Ask:
    """The request where nothing is kept. Raises UnsupportedParameter."""
    response = asked.echo["response"]
    wants = {
        "background": asked.keep.background,
        "store": asked.echo["asked_to_store"] is True,
        "previous_response_id": response["previous_response_id"] is not None,
        "input": refers(asked.echo["input"]),
    }
    for name, wanted in wants.items():
        if wanted:
            raise UnsupportedParameter(
                f"{name}: this node keeps no answers.",
                hint="Its owner can change that: store.enabled.",
                param=name,
            )
    echo = {**asked.echo, "response": {**response, "store": False}}
    return asked._replace(echo=echo, keep=asked.keep._replace(store=False))


async def _before(jobs: Jobs, who: CallerId, id_: str) -> tuple[Message, ...]:
    """All that was said up to the end of a response, but for its instructions."""
    try:
        job = await _response(jobs, who, id_)
    except NotFound:
        raise InvalidField(
            "previous_response_id: there is no response of this id.",
            hint="It may have been deleted, expired, or made with store: false.",
            param="previous_response_id",
        )
    if not job.status.over:
        raise InvalidField(
            "previous_response_id: this response is not finished yet.",
            hint="Wait for it, or cancel it.",
            param="previous_response_id",
        )
    at = _instructions_at(job)
    asked = [message for index, message in enumerate(job.request.messages) if index != at]
    return (*asked, *messages(response_of(job)["output"], "output"))


def _instructions_at(job: Job) -> int | None:
    found = msgspec.json.decode(job.echo).get("instructions_at")
    return found if isinstance(found, int) else None


async def _response(jobs: Jobs, who: CallerId, id_: str) -> Job:
    """A kept response. Raises NotFound, also for what another dialect keeps."""
    job = await jobs.job(who, id_)
    if job.dialect != DIALECT:
        raise NotFound(f"there is no response {id_!r}.")
    return job


async def _referred(jobs: Jobs, who: CallerId, said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items with those that are referred to in the place of their references. Raises InvalidField."""
    ids = {index: str(item.get("id", "")) for index, item in enumerate(said) if item.get("type") == "item_reference"}
    owners = set(map(owner_of, ids.values()))
    if len(owners) > MOST_REFERENCES:
        raise InvalidField(f"input: items of more than {MOST_REFERENCES} responses.", param="input")
    known = await _items(jobs, who, owners)
    for index, id_ in ids.items():
        if id_ not in known:
            raise InvalidField(
                f"input[{index}]: there is no item of this id.",
                hint="Send the item itself, or refer to one of a response that is kept.",
                param=f"input[{index}].id",
            )
    return [known[ids[index]] if index in ids else item for index, item in enumerate(said)]


async def _items(jobs: Jobs, who: CallerId, owners: Iterable[str]) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for owner in sorted(owners):
        try:
            job = await _response(jobs, who, owner)
        except NotFound:
            continue
        known |= {item["id"]: item for item in (*input_items(job), *response_of(job)["output"])}
    return known


def owner_of(item: str) -> str:
    """The id of the response that an item's id was made from."""
    return PREFIX + "_".join(item.split("_")[1:-1])
