"""Lines read and answered by their dialects."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing

from meshnode.api.batches.work import DialectWork
from meshnode.api.context import ApiContext
from meshnode.api.dialects import CHAT, DIALECTS
from meshnode.api.generation import LARGE_BODY
from meshnode.api.schema import Ask
from meshnode.domain import OWNER, ServiceClass
from meshnode.errors import Draining, InternalFault, InvalidField, MeshnodeError, NotFound, WorkerDied
from meshnode.events import Failed, Started, TextDelta
from meshnode.gateway.admission import Admission
from meshnode.gateway.batch import WINDOW_S, Line
from meshnode.gateway.batch_file import NoLine
from meshnode.gateway.principal import Principal
from meshnode.gateway.turnstile import Turnstile
from meshnode.storage.database import open_inline
from tests.kit.api import Scripted, a_context, spoken
from tests.kit.batches import NOW, a_batch, a_line
from tests.kit.kept import with_jobs

BATCH = a_batch()


def a_work(dispatcher: Scripted, **fields: object) -> tuple[DialectWork, ApiContext]:
    """Work over a dispatcher that plays a script."""
    context = a_context(dispatcher, [], wall_clock=lambda: NOW, **fields)
    return DialectWork(context, DIALECTS), context


async def read(work: DialectWork, line: object) -> Line:
    found = await work.read(BATCH, 3, json.dumps(line).encode())
    assert isinstance(found, Line), found
    return found


async def test_a_line_is_answered_behind_everybody_else_within_the_batchs_window() -> None:
    dispatcher = Scripted(spoken("Hello", " world"))
    work, _ = a_work(dispatcher)
    line = await read(work, a_line("a"))
    answered = await work.answer(BATCH, line)
    row = json.loads(answered.row)
    assert row["custom_id"] == "a"
    assert row["response"]["body"]["choices"][0]["message"]["content"] == "Hello world"
    assert (answered.usage.prompt_tokens, answered.usage.completion_tokens) == (5, 2)
    (request,) = dispatcher.requests
    assert (request.service_class, request.caller) == (ServiceClass.LEFTOVER, OWNER)
    assert request.deadline_s == pytest.approx(WINDOW_S, abs=60)


async def test_a_line_keeps_a_shorter_deadline_of_its_own() -> None:
    dispatcher = Scripted(spoken("x"))
    work, _ = a_work(dispatcher)
    await work.answer(BATCH, await read(work, a_line("a", deadline_ms=9000)))
    assert dispatcher.requests[0].deadline_s is not None
    assert dispatcher.requests[0].deadline_s <= 9


async def test_a_line_survives_being_kept() -> None:
    work, _ = a_work(Scripted(spoken("x")))
    body = {"model": "tiny", "input": [[1, 2], "text"], "encoding_format": "base64"}
    line = await work.read(
        msgspec.structs.replace(BATCH, endpoint="/v1/embeddings"),
        1,
        json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body}).encode(),
    )
    assert isinstance(line, Line)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(line), type=Line) == line
    assert json.loads(line.echo) == {"compact": True}


@pytest.mark.parametrize("store", [True, False])
async def test_an_answer_that_is_to_be_stored_is_to_be_had_by_its_own_id_too(store: bool) -> None:
    async with open_inline() as database, with_jobs(a_work(Scripted(spoken("Hello")))[1], database) as context:
        work = DialectWork(context, DIALECTS)
        answered = await work.answer(BATCH, await read(work, a_line("a", store=store)))
        id_ = json.loads(answered.row)["response"]["body"]["id"]
        kept = [job.id for job in (await context.jobs.jobs(OWNER)).jobs]
    assert kept == ([id_] if store else [])


async def test_a_line_waits_while_others_do_and_takes_nobodys_place() -> None:
    dispatcher = Scripted(spoken("x"))
    turnstile = Turnstile(Admission(max_generating=1, max_queued=5))
    work, _ = a_work(dispatcher, turnstile=turnstile)
    line = await read(work, a_line("a"))
    async with trio.open_nursery() as nursery:
        with turnstile.turn():
            with turnstile.turn():
                nursery.start_soon(work.answer, BATCH, line)
                await trio.testing.wait_all_tasks_blocked()
                assert dispatcher.requests == []
            while not dispatcher.requests:
                await trio.lowlevel.checkpoint()
            assert turnstile.admission.generating == 1


@pytest.mark.parametrize(
    ("dispatcher", "kind"),
    [
        (Scripted([], refusal=NotFound("none.")), NotFound),
        (Scripted([Started(5), TextDelta("x"), Failed("worker_died", "it died.")]), WorkerDied),
        (Scripted([Started(5), TextDelta("x")]), InternalFault),
        (Scripted([ValueError("SECRET")]), InternalFault),
    ],
)
async def test_what_goes_wrong_is_an_error_of_the_tree(dispatcher: Scripted, kind: type[MeshnodeError]) -> None:
    work, _ = a_work(dispatcher)
    line = await read(work, a_line("a"))
    with pytest.raises(kind) as caught:
        await work.answer(BATCH, line)
    assert "SECRET" not in str(caught.value)


async def test_a_node_that_stops_ends_it() -> None:
    dispatcher = Scripted([trio.sleep_forever])
    work, context = a_work(dispatcher)
    line = await read(work, a_line("a"))
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await dispatcher.entered.wait()
            context.draining.set()

        nursery.start_soon(stop)
        with pytest.raises(Draining):
            await work.answer(BATCH, line)
    with pytest.raises(Draining):
        await work.answer(BATCH, line)


async def test_a_dialect_completes_its_lines() -> None:
    async def prepare(context: ApiContext, principal: Principal, ask: Ask) -> Ask:
        if ask.model == "none":
            raise NotFound("no such answer.", param="previous_response_id")
        return ask._replace(request=msgspec.structs.replace(ask.request, session=principal.caller))

    context = a_context(Scripted([]), [])
    work = DialectWork(context, {"chat/completions": CHAT._replace(prepare=prepare)})
    assert (await read(work, a_line("a"))).request.session == OWNER
    found = await work.read(BATCH, 3, json.dumps(a_line("b", model="none")).encode())
    assert isinstance(found, NoLine)
    assert (found.custom_id, found.error.param) == ("b", "previous_response_id")


async def test_a_line_is_no_part_of_a_conversation_that_the_node_remembers() -> None:
    async def prepare(context: ApiContext, principal: Principal, ask: Ask) -> Ask:
        return ask._replace(keep=ask.keep._replace(in_session=True))

    work = DialectWork(a_context(Scripted([]), []), {"chat/completions": CHAT._replace(prepare=prepare)})
    found = await work.read(BATCH, 3, json.dumps(a_line("a", session_id="s", store=True)).encode())
    assert isinstance(found, NoLine)
    assert (found.custom_id, found.error.param) == ("a", "session_id")


async def test_a_large_line_is_read_as_well() -> None:
    work, _ = a_work(Scripted([]))
    assert (await read(work, a_line("a", "x" * LARGE_BODY))).custom_id == "a"


async def test_a_defect_of_a_dialect_costs_its_line() -> None:
    def broken(body: bytes, asker: object) -> Ask:
        raise ZeroDivisionError("SECRET")

    work = DialectWork(a_context(Scripted([]), []), {"chat/completions": CHAT._replace(parse=broken)})
    found = await work.read(BATCH, 3, json.dumps(a_line("a")).encode())
    assert isinstance(found, NoLine)
    assert isinstance(found.error, InternalFault)


async def test_rows_of_lines_without_an_answer() -> None:
    work, _ = a_work(Scripted([]))
    error = InvalidField("wrong.", param="temperature")
    named = json.loads(work.refusal(BATCH, 3, "a", error))
    assert named["response"]["status_code"] == 400
    assert named["response"]["body"]["error"]["param"] == "temperature"
    assert json.loads(work.refusal(BATCH, 3, None, error))["error"]["code"] == "invalid_value"
    assert json.loads(work.late(BATCH, await read(work, a_line("a"))))["error"]["code"] == "batch_expired"
