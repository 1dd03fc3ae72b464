"""What requests cost, by an id of their own."""

from __future__ import annotations

import itertools

from meshnode.domain import ModelId, PeerId, RequestId
from meshnode.mesh.charges import MOST, Charged, Charges
from meshnode.wire.fields import Prices
from meshnode.wire.messages import Mark

PRICES = Prices(10, 2, 80, 2000)


def charges() -> Charges:
    """None yet; ids are numbered."""
    numbers = itertools.count(1)
    return Charges(lambda count: next(numbers).to_bytes(count, "big"), lambda: 1_700_000_000.5)


def begun(known: Charges) -> str:
    """One request."""
    return known.begin(RequestId("r"), ModelId("m"), PeerId("bob"), bytes(32), PRICES)


def test_a_request_is_followed_from_the_ask_to_the_receipt() -> None:
    known = charges()
    id_ = begun(known)
    assert id_ == "rcpt_" + "0" * 23 + "1"
    plain = Charged(
        id=id_, request=RequestId("r"), model=ModelId("m"), peer=PeerId("bob"), provider=bytes(32), prices=PRICES,
        created=1_700_000_000.5,
    )  # fmt: skip
    assert known.find(id_) == plain
    known.paid(id_, 2000, 7, 1)
    known.delivered(id_, Mark(1, 6, 2, 40), 3264)
    known.paid(id_, 3264, 7, 2)
    found = known.find(id_)
    assert found is not None
    assert (found.prompt_tokens, found.cached_tokens, found.output_tokens) == (6, 2, 40)
    assert (found.cost_uc, found.paid_uc, found.chan, found.seq, found.closed) == (3264, 3264, 7, 2, True)


def test_only_the_newest_are_remembered_and_what_comes_late_for_others_is_nothing() -> None:
    known = charges()
    first, *_, last = [begun(known) for _ in range(MOST + 1)]
    assert known.find(first) is None
    assert known.find(last) is not None
    known.paid(first, 1, 1, 1)
    known.delivered(first, Mark(1, 1, 1, 1), 1)
    assert known.find(first) is None
