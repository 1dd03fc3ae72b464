"""What is known of whom: the newest wins, whichever way it came; nothing outlives its time or its last voucher."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import PeerId
from meshnode.errors import ProtocolViolation
from meshnode.identity import Identity, network_tag
from meshnode.mesh import offers as module
from meshnode.mesh.offers import MOST_RELAYED, PASSED_ON, OfferBook, substance
from meshnode.wire.offer import Offer, Passed
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB, CAROL, identity
from tests.kit.tellers import book_of, signed

T0 = 1_700_000_000_000
DAVE = identity("dave")
MODEL = model_offer("m:q8_0")
DEARER = msgspec.structs.replace(MODEL.prices, output_uc=1000)


def told(who: Identity, at_s: float = 0.0, *, age_s: float = 0.0, **changes: object) -> Passed:
    """An offer that ``who`` signed ``at_s`` after T0."""
    changes.setdefault("models", (MODEL,))
    return signed(who, offer(who, issued_ms=T0 + round(1000 * at_s), **changes), age_ms=round(1000 * age_s))


class Hearing:
    """Alice's book, at a time that is set; ``notices`` counts what her listener heard."""

    def __init__(self) -> None:
        self.book: OfferBook = book_of(ALICE)
        self.now = 0.0
        self.notices = 0
        self.book.listen(self._note)

    def hear(self, passed: Passed, source: Identity) -> Offer | None:
        """Told by ``source`` now, the wall clocks agreeing."""
        return self.book.take(passed, source=source.peer_id, now=self.now, wall_ms=T0 + round(1000 * self.now))

    def issue(self, who: Identity) -> int | None:
        """Which offer of ``who`` is known."""
        known = self.book.offer(who.peer_id, self.now)
        return None if known is None else known.issued_ms - T0

    def passes(self, to: Identity) -> list[PeerId]:
        """Whose offers are passed on."""
        return [voucher.peer for voucher in self.book.to_pass_on(to.peer_id, self.now)]

    def _note(self) -> None:
        self.notices += 1


@pytest.fixture
def alice() -> Hearing:
    """Nothing is known yet."""
    return Hearing()


# --- the newest wins ------------------------------------------------------------------------------


def test_an_offer_from_its_peer_is_known_with_its_age_and_source(alice: Hearing) -> None:
    heard = alice.hear(told(BOB, age_s=2), BOB)
    assert heard is not None
    assert alice.book.offers(alice.now) == (heard,)
    assert alice.book.source(BOB.peer_id, 0.0) == BOB.peer_id
    assert alice.book.age_s(BOB.peer_id, 3.0) == 5.0
    assert alice.notices
    assert alice.book.offer(CAROL.peer_id, 0.0) is None
    assert alice.book.age_s(CAROL.peer_id, 0.0) is None
    assert alice.book.source(CAROL.peer_id, 0.0) is None


def test_our_own_offer_is_none_of_the_books(alice: Hearing) -> None:
    assert alice.hear(told(ALICE), BOB) is None
    assert alice.book.offers(0.0) == ()


_TELLING = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from([BOB, CAROL, DAVE]), st.integers(0, 5)), min_size=1, max_size=12
)


@given(_TELLING)
def test_whatever_the_order_and_the_road_the_newest_is_known(telling: list[tuple[int, Identity, int]]) -> None:
    alice = Hearing()
    newest = -1
    for at_s, source, pause_s in telling:
        alice.now += pause_s
        heard = alice.hear(told(BOB, at_s - 40, age_s=min(40 - at_s, 60)), source)
        assert (heard is not None) == (at_s > newest)
        newest = max(newest, at_s)
        assert alice.issue(BOB) == 1000 * (newest - 40)


_EVENT = st.one_of(
    st.tuples(st.just("tell"), st.sampled_from([BOB, CAROL, DAVE]), st.sampled_from([BOB, CAROL, DAVE])),
    st.tuples(st.just("gone"), st.sampled_from([BOB, CAROL, DAVE]), st.sampled_from([BOB, CAROL, DAVE])),
    st.tuples(st.just("lost"), st.sampled_from([BOB, CAROL, DAVE]), st.just(BOB)),
    st.tuples(st.just("hushed"), st.sampled_from([BOB, CAROL, DAVE]), st.just(BOB)),
    st.tuples(st.just("wait"), st.just(BOB), st.just(BOB)),
)


@given(st.lists(_EVENT, max_size=40))
def test_a_peer_is_known_as_long_as_somebody_vouches_for_it(events: list[tuple[str, Identity, Identity]]) -> None:
    alice = Hearing()
    vouched: dict[Identity, set[Identity]] = {who: set() for who in (BOB, CAROL, DAVE)}
    told_at: dict[Identity, float] = {}
    for what, source, peer in events:
        if what == "tell":
            alice.hear(told(peer, alice.now), source)
            vouched[peer].add(source)
            told_at[peer] = alice.now
        elif what == "gone":
            alice.book.gone(source.peer_id, [peer.peer_id])
            vouched[peer].discard(source)
        elif what == "wait":
            alice.now += 50
            alice.book.expire(alice.now)
        else:
            lost = what == "lost"
            alice.book.lost(source.peer_id, alice.now) if lost else alice.book.hushed(source.peer_id)
            for other, vouchers in vouched.items():
                vouchers -= {source} if lost or other is not source else set()
        for who, vouchers in vouched.items():
            if alice.now - told_at.get(who, -1000) >= 120:
                vouchers.clear()
            assert (alice.issue(who) is not None) == bool(vouchers)
            known_by = {each for each in (BOB, CAROL, DAVE) if who.peer_id in alice.book.told_by(each.peer_id)}
            assert known_by == vouchers


def test_load_alone_raises_no_version_and_everything_else_does(alice: Hearing) -> None:
    alice.hear(told(BOB, 1), BOB)
    before, notices = alice.book.version, alice.notices
    busy = msgspec.structs.replace(MODEL, free=0, queue=9, decode_tps=1.0, first_token_ms=9.0)
    assert alice.hear(told(BOB, 2, models=(busy,)), BOB) is not None
    assert (alice.book.version, alice.notices) == (before, notices + 1)
    away = ("/ip4/10.0.0.1/tcp/1",)
    for other in (told(BOB, 3, models=()), told(BOB, 4, addresses=away), told(BOB, 5, max_body=1)):
        alice.hear(other, BOB)
        assert alice.book.version > before
        before = alice.book.version


def test_the_substance_leaves_prices_and_states_in() -> None:
    plain = offer(BOB, MODEL)
    for other in (model_offer(MODEL.id, prices=DEARER), model_offer(MODEL.id, state="loading")):
        assert substance(plain) != substance(offer(BOB, other))
    assert substance(plain) == substance(msgspec.structs.replace(plain, issued_ms=1))


# --- what is over, and what is no offer -----------------------------------------------------------


def test_straight_from_its_peer_it_is_good_for_its_time_whatever_the_clocks_say(alice: Hearing) -> None:
    assert alice.hear(told(BOB, -86_400 * 365), BOB) is not None
    assert alice.book.expire(0.0) == 120
    alice.now = 119.9
    assert alice.issue(BOB) is not None
    alice.now = 120.0
    assert alice.issue(BOB) is None
    assert alice.book.expire(alice.now) is None
    assert alice.book.told_by(BOB.peer_id) == frozenset()


def test_relayed_it_is_good_for_what_its_age_leaves_and_no_longer_when_it_is_told_again(alice: Hearing) -> None:
    assert alice.hear(told(BOB, age_s=100), CAROL) is not None
    assert alice.book.expire(0.0) == 20
    assert alice.hear(told(BOB, age_s=120), DAVE) is None
    assert alice.book.told_by(DAVE.peer_id) == frozenset()
    alice.now = 10.0
    alice.hear(told(BOB, age_s=0), DAVE)
    assert alice.book.expire(alice.now) == 120
    alice.now = 119.0
    alice.hear(told(BOB, age_s=0), DAVE)
    assert alice.book.expire(alice.now) == 120


@pytest.mark.parametrize(("at_s", "taken"), [(-86_400, False), (-421, False), (-419, True), (419, True), (421, False)])
def test_a_relayed_offer_of_another_day_is_a_replay(alice: Hearing, at_s: float, taken: bool) -> None:
    assert (alice.hear(told(BOB, at_s), CAROL) is not None) == taken
    assert (alice.issue(BOB) is not None) == taken


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (signed(CAROL, offer(BOB, MODEL)), "did not sign"),
        (signed(BOB, offer(BOB, MODEL, network=network_tag("other", None))), "another network"),
        (signed(BOB, offer(BOB, MODEL, peer="bob")), "no proper id"),
        (msgspec.structs.replace(told(BOB), offer=msgspec.structs.replace(told(BOB).offer, body=b"\x90")), "offer"),
    ],
)
def test_what_is_no_offer_is_refused_and_changes_nothing(alice: Hearing, passed: Passed, said: str) -> None:
    alice.hear(told(BOB, 1), BOB)
    with pytest.raises(ProtocolViolation, match=said):
        alice.hear(passed, CAROL)
    assert alice.issue(BOB) == 1000
    assert alice.book.told_by(CAROL.peer_id) == frozenset()


# --- who vouches ----------------------------------------------------------------------------------


def test_a_lost_peers_offer_goes_at_once_and_what_it_alone_vouched_for(alice: Hearing) -> None:
    alice.hear(told(BOB), BOB)
    alice.hear(told(CAROL), BOB)
    alice.hear(told(DAVE), DAVE)
    alice.hear(told(DAVE), BOB)
    before = alice.notices
    alice.book.lost(BOB.peer_id, 1.0)
    assert [known.peer for known in alice.book.offers(1.0)] == [DAVE.peer_id]
    assert alice.notices > before
    alice.book.lost(BOB.peer_id, 1.0)


def test_a_lost_peer_that_another_still_vouches_for_stays(alice: Hearing) -> None:
    alice.hear(told(BOB), BOB)
    alice.hear(told(BOB), CAROL)
    alice.book.lost(BOB.peer_id, 1.0)
    assert alice.book.source(BOB.peer_id, 1.0) == CAROL.peer_id
    alice.book.gone(CAROL.peer_id, [BOB.peer_id, DAVE.peer_id])
    assert alice.book.offers(1.0) == ()


def test_an_older_offer_does_not_return_in_place_of_one_that_was_withdrawn(alice: Hearing) -> None:
    alice.hear(told(BOB, 2, models=()), BOB)
    alice.book.lost(BOB.peer_id, 1.0)
    assert alice.hear(told(BOB, 1), CAROL) is None
    known = alice.book.offer(BOB.peer_id, 1.0)
    assert known is not None
    assert known.models == ()
    alice.book.gone(CAROL.peer_id, [BOB.peer_id])
    assert alice.hear(told(BOB, 3), BOB) is not None


# --- passing on -----------------------------------------------------------------------------------


def test_only_what_came_straight_from_its_peer_is_passed_on_and_not_to_itself(alice: Hearing) -> None:
    alice.hear(told(BOB), BOB)
    alice.hear(told(CAROL), BOB)
    assert alice.passes(DAVE) == [BOB.peer_id]
    assert alice.passes(BOB) == []
    assert alice.book.direct(0.0) == {BOB.peer_id}
    alice.book.lost(BOB.peer_id, 0.0)
    assert alice.passes(DAVE) == []


def test_whether_the_reader_vouches_itself_is_told_and_what_offers_no_model_is_not_passed_on(alice: Hearing) -> None:
    alice.hear(told(BOB), BOB)
    alice.hear(told(CAROL, models=()), CAROL)
    for there in (False, True, False):
        (voucher,) = alice.book.to_pass_on(DAVE.peer_id, alice.now)
        assert (voucher.peer, voucher.there) == (BOB.peer_id, there)
        version = alice.book.version
        if there:
            alice.book.gone(DAVE.peer_id, [BOB.peer_id])
            assert alice.book.version > version
        else:
            alice.hear(told(BOB), DAVE)
    assert alice.book.direct(0.0) == {BOB.peer_id}


def test_what_is_passed_on_says_how_old_it_is(alice: Hearing) -> None:
    alice.hear(told(BOB, 7, age_s=5), BOB)
    (voucher,) = alice.book.to_pass_on(DAVE.peer_id, 10.0)
    assert (voucher.peer, voucher.issued_ms, voucher.left_s) == (BOB.peer_id, T0 + 7000, 105.0)
    assert voucher.passed == told(BOB, 7, age_s=15)


def test_of_very_many_each_reader_gets_some_with_every_model_among_them(alice: Hearing) -> None:
    many = [identity(f"provider {number}") for number in range(PASSED_ON + 20)]
    for number, who in enumerate(many):
        alice.hear(told(who, models=(model_offer("rare" if number == 33 else "common"),)), who)
    choices = []
    for reader in (BOB, CAROL):
        choice = alice.passes(reader)
        assert len(set(choice)) == PASSED_ON
        assert many[33].peer_id in choice
        assert choice == alice.passes(reader)
        choices.append(set(choice))
    assert choices[0] != choices[1]


# --- bounds ---------------------------------------------------------------------------------------


def crowd(name: str, size: int) -> list[Passed]:
    """Offers of that many peers."""
    return [told(identity(f"{name} {number}")) for number in range(size)]


def test_one_peer_tells_of_so_many_others_at_most(alice: Hearing) -> None:
    for passed in crowd("sybil", MOST_RELAYED + 5):
        alice.hear(passed, BOB)
    assert len(alice.book.offers(0.0)) == MOST_RELAYED
    assert alice.hear(told(CAROL), BOB) is None
    assert alice.hear(told(BOB), BOB) is not None
    assert alice.hear(told(CAROL), DAVE) is not None


def test_one_peer_tells_of_so_many_bytes_at_most(alice: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(told(CAROL).offer.body)
    monkeypatch.setattr(module, "MOST_RELAYED_BYTES", 3 * size + 50)
    for passed in crowd("sybil", 5):
        alice.hear(passed, BOB)
    assert len(alice.book.offers(0.0)) == 3
    longer = told(identity("sybil 0"), 1, models=(MODEL, MODEL))
    assert alice.hear(longer, BOB) is None
    assert alice.hear(longer, CAROL) is not None


def test_when_all_is_full_who_told_of_most_gives_way(alice: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10)
    for passed in crowd("sybil", 12):
        alice.hear(passed, BOB)
    assert len(alice.book.offers(0.0)) == 10
    for passed in crowd("honest", 12):
        alice.hear(passed, CAROL)
    assert len(alice.book.told_by(BOB.peer_id)) == 5 == len(alice.book.told_by(CAROL.peer_id))
    assert alice.hear(told(DAVE), DAVE) is not None
    assert len(alice.book.offers(0.0)) == 10


def test_what_nobody_vouches_for_gives_way_first(alice: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for who in (BOB, CAROL):
        alice.hear(told(who), who)
    alice.hear(told(DAVE), BOB)
    alice.book.lost(CAROL.peer_id, 0.0)
    alice.hear(told(identity("erin")), BOB)
    assert {known.peer for known in alice.book.offers(0.0)} == {who.peer_id for who in (BOB, DAVE, identity("erin"))}


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3), st.sampled_from(["tell", "gone", "lost"]))))
def test_the_sums_are_kept_whatever_happens(steps: list[tuple[int, int, str]]) -> None:
    alice = Hearing()
    people = [identity(f"number {number}") for number in range(8)]
    for at, (who, source, what) in enumerate(steps):
        if what == "tell":
            models = (MODEL,) * (at % 3)
            alice.hear(told(people[who], at, models=models), people[source])
        elif what == "gone":
            alice.book.gone(people[source].peer_id, [people[who].peer_id])
        else:
            alice.book.lost(people[source].peer_id, alice.now)
        book = alice.book
        assert book._bytes == sum(len(known.signed.body) for known in book._known.values())
        for each in people[:4]:
            told_by = book.told_by(each.peer_id) - {each.peer_id}
            assert book._weights.get(each.peer_id, 0) == sum(len(book._known[peer].signed.body) for peer in told_by)
        assert set(book._hidden) == {known.peer for known in book._known.values() if not known.vouchers}
