"""How long a caller who sees nothing waits for a model, and when it is told to come back."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from meshnode.api.chat import ChatRenderer
from meshnode.api.render import Heading
from meshnode.api.stream import EventStream
from meshnode.domain import RequestId
from meshnode.errors import ModelNotFound
from meshnode.events import Event, Loading, Prefilling, Queued, Started, TextDelta
from meshnode.gateway.feed import start_feed
from meshnode.gateway.loading import LONGEST_RETRY_S, SHORTEST_RETRY_S, UNKNOWN_RETRY_S, LoadWatch, still_on_its_way
from meshnode.models.arriving import Arrival
from meshnode.models.catalogue import DEFAULT
from meshnode.models.pull import PullProgress
from tests.kit.api import CARD, CHAT, MemoryLibrary, MemoryPool, Scripted, Step, a_context, running_api, spoken
from tests.kit.requests import prompt

STREAM = {**CHAT, "stream": True}


class Empty(Scripted):
    """A dispatcher that knows no model until its library has one."""

    def __init__(self, library: MemoryLibrary) -> None:
        super().__init__(spoken("Hello"))
        self._library = library

    @property
    def refusal(self) -> Exception | None:
        """What an empty library says."""
        return None if self._library.cards() else ModelNotFound("there are no models here.", hint="pull default")

    @refusal.setter
    def refusal(self, value: object) -> None:
        """The library says it."""


async def ignored(_: PullProgress) -> None:
    """Nobody else listens."""


def chat(model: str | None = None, **fields: object) -> dict[str, object]:
    """A request for a model, or for the default."""
    return {key: value for key, value in {**CHAT, **fields, "model": model}.items() if key != "model" or model}


def test_nobody_gives_up_while_no_model_is_on_its_way() -> None:
    watch = LoadWatch(20)
    assert watch.deadline == math.inf
    watch.see(Queued(3), 5)
    assert watch.deadline == math.inf


def test_patience_counts_from_the_first_sign_of_a_load() -> None:
    watch = LoadWatch(20)
    for now in (5, 10, 15):
        watch.see(Loading(now / 100), now)
        assert watch.deadline == 25


@pytest.mark.parametrize("event", [Queued(2), Started(5), TextDelta("a"), Prefilling(1, 2)])
def test_what_the_loaded_model_says_ends_the_watch(event: Event) -> None:
    watch = LoadWatch(20)
    watch.see(Loading(0.5), 0)
    watch.see(event, 1)
    assert watch.deadline == math.inf


def test_the_rest_takes_as_long_as_the_part_that_was_seen() -> None:
    watch = LoadWatch(20)
    watch.see(Loading(0.2), 0)
    watch.see(Loading(0.6), 20)
    error = watch.error(20)
    assert error.status == 503
    assert error.retry_after_s == pytest.approx(20)
    assert "being loaded, 60%" in error.message


def test_the_load_after_a_fetch_has_a_pace_of_its_own() -> None:
    watch = LoadWatch(20)
    watch.see(Loading(0.0, fetching=True), 0)
    assert "being fetched, 0%" in watch.error(5).message
    watch.see(Loading(0.0), 10)
    watch.see(Loading(0.5), 12)
    assert watch.error(12).retry_after_s == pytest.approx(2)
    assert watch.deadline == 20


def test_a_load_that_does_not_move_is_asked_for_again_after_a_while() -> None:
    assert still_on_its_way(Loading(0.1), math.inf).retry_after_s == UNKNOWN_RETRY_S


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), min_size=1), st.floats(0, 1e6))
def test_the_wait_is_always_one_that_clients_take(seen: list[tuple[float, float]], later: float) -> None:
    watch = LoadWatch(20)
    for fraction, now in sorted(seen, key=lambda pair: pair[1]):
        watch.see(Loading(fraction), now)
    wait = watch.error(max(now for _, now in seen) + later).retry_after_s
    assert wait is not None
    assert SHORTEST_RETRY_S <= wait <= LONGEST_RETRY_S


# --- a model that is being loaded ---------------------------------------------------------------


async def test_one_who_sees_nothing_is_told_how_far_the_load_is_and_when_to_come_back() -> None:
    steps: list[Step] = [Loading(0.1), Loading(0.4), trio.sleep_forever]
    async with running_api(Scripted(steps), load_patience_s=0.1) as api, api.client() as client:
        answer = await client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
    assert "40%" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["x-should-retry"] == "true"


async def test_a_load_that_is_soon_done_is_waited_for() -> None:
    steps: list[Step] = [Loading(0.1), Loading(0.9), *spoken("Hello")]
    async with running_api(Scripted(steps), load_patience_s=5.0) as api, api.client() as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_events_that_say_nothing_do_not_put_the_comment_off(autojump_clock: MockClock) -> None:
    async def a_while() -> None:
        await trio.sleep(0.4)

    steps: list[Step] = [step for n in range(40) for step in (Loading(n / 40), a_while)]
    context = a_context(Scripted([*steps, *spoken("Hello")]), [])
    async with trio.open_nursery() as nursery:
        feed = start_feed(nursery, context, prompt())
        renderer = ChatRenderer(Heading("id", 0, CARD.id, ""), include_usage=False)
        stream = EventStream(context, feed, renderer, None, RequestId("r"))
        pieces = [piece.decode() async for piece in stream]
    told = [piece for piece in pieces if piece.startswith(": loading the model, ")]
    assert 10 <= len(told) <= 16, "about one a second"
    assert len(set(told)) == len(told)
    assert "Hello" in "".join(pieces)


# --- a model that is being fetched --------------------------------------------------------------


async def test_a_stream_for_the_model_that_is_being_fetched_waits_and_shows_how_far() -> None:
    library = MemoryLibrary()
    with library.arrivals.under_way(DEFAULT, "default") as arrival:
        await arrival.telling(ignored)(PullProgress(phase="fetch", done=37, total=100))
        async with (
            running_api(Empty(library), library=library, commit_after_s=0.05, comment_every_s=0.05) as api,
            api.client() as client,
            client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer,
        ):
            lines = answer.aiter_lines()
            assert answer.status_code == 200
            assert await anext(lines) == ": fetching the model, 37%"
            library.enter(CARD)
            arrival.end()
            assert "Hello" in "".join([line async for line in lines])


async def test_one_who_sees_nothing_of_a_fetch_is_told_when_to_come_back() -> None:
    library = MemoryLibrary()
    with library.arrivals.under_way(DEFAULT, "default") as arrival:
        await arrival.telling(ignored)(PullProgress(phase="fetch", done=37, total=100))
        async with running_api(Empty(library), library=library, load_patience_s=0.1) as api, api.client() as client:
            for model in (None, DEFAULT.id, "auto", "fast:tools"):
                answer = await client.post("/v1/chat/completions", json=chat(model))
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
                assert "being fetched, 37%" in answer.json()["error"]["message"]
            assert (await client.post("/v1/chat/completions", json=chat("another"))).status_code == 404


async def test_a_fetch_that_takes_longer_than_the_request_may_is_told_with_how_far_it_is() -> None:
    library = MemoryLibrary()
    with library.arrivals.under_way(DEFAULT, "default"):
        async with running_api(Empty(library), library=library) as api, api.client() as client:
            answer = await client.post("/v1/chat/completions", json=chat(stream=True, deadline_ms=100))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")


async def test_a_fetch_that_fails_leaves_the_dispatchers_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    library = MemoryLibrary()
    with library.arrivals.under_way(DEFAULT, "default") as arrival:
        library_asked = trio.Event()
        arriving = library.arriving

        def asked(name: str | None) -> Arrival | None:
            library_asked.set()
            return arriving(name)

        monkeypatch.setattr(library, "arriving", asked)
        async with (
            running_api(Empty(library), library=library) as api,
            api.client() as client,
            trio.open_nursery() as nursery,
        ):

            async def ask() -> None:
                answer = await client.post("/v1/chat/completions", json=chat())
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")

            nursery.start_soon(ask)
            await library_asked.wait()
            arrival.end()


async def test_health_and_status_say_what_is_being_fetched() -> None:
    library = MemoryLibrary()
    with library.arrivals.under_way(DEFAULT, "default") as arrival:
        await arrival.telling(ignored)(PullProgress(phase="fetch", done=37, total=100))
        async with running_api(library=library, pool=MemoryPool()) as api, api.client() as client:
            health, status = await client.get("/health"), await client.get("/api/status")
    told = [{"source": "default", "phase": "fetch", "progress": 0.37}]
    assert health.status_code == 503
    assert health.json() == {"status": "loading", "loading": [], "fetching": told}
    assert status.json()["fetching"] == told
