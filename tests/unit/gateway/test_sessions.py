"""Sessions in the vault: by principal, by a name that is not written down, bounded."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio

from meshnode.domain import OWNER, CallerId, Message, Role, TextPart
from meshnode.errors import InvalidField, NotFound
from meshnode.events import Finished, Started, TextDelta, Usage
from meshnode.gateway.job import Job
from meshnode.gateway.sessions import KIND, MOST_BYTES, Sessions
from meshnode.storage.database import Connection, Database, open_inline
from meshnode.storage.vault import Vault
from tests.kit.jobs import a_job

GUEST = CallerId("key:0123456789abcdef")
NAME = "about ann@example.org"
HI = Message(role=Role.USER, parts=(TextPart("hi"),))
HELLO = Message(role=Role.ASSISTANT, parts=(TextPart("Hello"),))


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with open_inline() as opened:
        yield opened


@pytest.fixture
def sessions(database: Database) -> Sessions:
    return Sessions(Vault(database, bytes(32), entropy=os.urandom, now=lambda: 5.0))


def an_exchange(*messages: Message, said: str = "Hello", principal: CallerId = OWNER, name: str | None = NAME) -> Job:
    job = a_job(principal=principal)
    request = msgspec.structs.replace(job.request, prompt=None, messages=messages, session=name)
    return msgspec.structs.replace(job, request=request, events=(Started(1), TextDelta(said), Finished(Usage(1, 1))))


async def test_an_exchange_is_remembered_and_goes_before_the_next(sessions: Sessions) -> None:
    assert await sessions.continued(OWNER, NAME, (HI,)) == (HI,)
    await sessions.add(an_exchange(HI))
    session = await sessions.session(OWNER, NAME)
    assert (session.messages, session.created) == ((HI, HELLO), 5)
    assert await sessions.continued(OWNER, NAME, (HI,)) == (HI, HELLO, HI)


async def test_a_job_of_no_session_is_not_remembered(database: Database, sessions: Sessions) -> None:
    await sessions.add(an_exchange(HI, name=None))
    assert await database.read(lambda c: c.execute("SELECT count(*) FROM sealed").fetchone()) == (0,)


async def test_the_same_name_is_another_session_to_another_principal(sessions: Sessions) -> None:
    await sessions.add(an_exchange(HI))
    assert await sessions.continued(GUEST, NAME, (HI,)) == (HI,)
    for look in (sessions.session, sessions.delete):
        with pytest.raises(NotFound):
            await look(GUEST, NAME)
    assert (await sessions.session(OWNER, NAME)).messages == (HI, HELLO)


async def test_a_deleted_session_begins_anew(sessions: Sessions) -> None:
    await sessions.add(an_exchange(HI))
    await sessions.delete(OWNER, NAME)
    assert await sessions.continued(OWNER, NAME, (HI,)) == (HI,)
    with pytest.raises(NotFound):
        await sessions.delete(OWNER, NAME)


async def test_exchanges_that_end_together_are_all_remembered(sessions: Sessions) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(sessions.add, an_exchange(HI, said=f"Hello {number}"))
    messages = (await sessions.session(OWNER, NAME)).messages
    said = {part.text for message in messages for part in message.parts if isinstance(part, TextPart)}
    assert said == {"hi", *(f"Hello {number}" for number in range(5))}


async def test_a_session_that_grew_too_long_is_refused_by_name(sessions: Sessions) -> None:
    await sessions.add(an_exchange(HI, said="x" * MOST_BYTES))
    with pytest.raises(InvalidField, match="session_id") as caught:
        await sessions.continued(OWNER, NAME, (HI,))
    assert caught.value.param == "session_id"


def _all(connection: Connection) -> str:
    return str(connection.execute("SELECT * FROM sealed").fetchall())


async def test_the_name_is_not_written_down(database: Database, sessions: Sessions) -> None:
    await sessions.add(an_exchange(HI))
    stored = await database.read(_all)
    assert KIND in stored
    assert "ann" not in stored
