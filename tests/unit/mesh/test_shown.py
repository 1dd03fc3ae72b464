"""The mesh as its owner sees it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshnode.domain import ModelId, PeerId, RequestId
from meshnode.errors import ModelNotFound
from meshnode.mesh.charges import Charged
from meshnode.mesh.health import UNKNOWN, History
from meshnode.mesh.ladder import Rung
from meshnode.mesh.shown import mesh_models, peer_view, receipt_view, rung_view
from meshnode.net.transport import Link
from meshnode.wire.fields import Prices
from tests.kit.offers import model_offer, offer
from tests.kit.peers import ALICE, BOB, CAROL


def test_a_model_is_one_entry_with_all_its_providers() -> None:
    offers = [
        offer(BOB, model_offer("b:q4"), model_offer("A:q4", context=4096)),
        offer(CAROL, model_offer("a:q4", context=8192, decode_tps=7.0)),
        offer(ALICE, model_offer("own:q4")),
    ]
    models = mesh_models(offers, but=ALICE.peer_id)
    assert [model.id for model in models] == ["a:q4", "b:q4"]
    assert models[0].context_length == 8192
    assert [(each.peer, each.context_length, each.decode_tps) for each in models[0].providers] == [
        (BOB.peer_id, 4096, 100.0),
        (CAROL.peer_id, 8192, 7.0),
    ]


def test_nobody_offers_nothing() -> None:
    assert mesh_models([], but=ALICE.peer_id) == ()


def test_a_connected_peer_is_shown_with_all_that_is_known() -> None:
    link = Link(peer=BOB.peer_id, address="/ip4/10.0.0.2/tcp/9338", outbound=True, rtt_s=0.002)
    history = History(successes=3, failures=1, first_token_s=0.2, decode_tps=50.0, score=0.8, last_failure="x: y")
    view = peer_view(
        BOB.peer_id,
        link=link,
        offer=offer(BOB, model_offer("a")),
        source=BOB.peer_id,
        age_s=1.5,
        history=history,
        avoided="failed, not asked for 1 s",
    )
    assert (view.connected, view.address, view.outbound, view.rtt_s) == (True, link.address, True, 0.002)
    assert (view.models, view.software, view.source, view.offer_age_s) == (("a",), "test", "itself", 1.5)
    assert (view.successes, view.failures, view.score, view.last_failure) == (3, 1, 0.8, "x: y")
    assert view.avoided == "failed, not asked for 1 s"


def test_a_peer_known_by_hearsay_says_from_whom() -> None:
    view = peer_view(
        BOB.peer_id, link=None, offer=offer(BOB), source=CAROL.peer_id, age_s=3.0, history=UNKNOWN, avoided=""
    )
    assert (view.connected, view.source, view.address, view.rtt_s) == (False, CAROL.peer_id, "", None)


def test_a_peer_that_offers_nothing_is_shown_too() -> None:
    view = peer_view(BOB.peer_id, link=None, offer=None, source=None, age_s=None, history=UNKNOWN, avoided="")
    assert (view.models, view.source, view.offer_age_s, view.score) == ((), "", None, 1.0)


CHARGED = Charged(
    id="rcpt_1",
    request=RequestId("r"),
    model=ModelId("m"),
    peer=PeerId("bob"),
    provider=bytes(32),
    prices=Prices(10, 2, 80, 2000),
    created=1_700_000_000.5,
)


@pytest.mark.parametrize(
    ("changes", "confirmed", "state"),
    [
        ({"paid_uc": 10, "seq": 1}, 9, "open"),
        ({"closed": True, "cost_uc": 20, "paid_uc": 10, "seq": 1}, 9, "owed"),
        ({"closed": True, "cost_uc": 20, "paid_uc": 20, "seq": 3}, 2, "signed"),
        ({"closed": True, "cost_uc": 20, "paid_uc": 20, "seq": 3}, 3, "confirmed"),
    ],
)
def test_a_receipt_says_how_far_it_is(changes: dict[str, Any], confirmed: int, state: str) -> None:
    view = receipt_view(msgspec.structs.replace(CHARGED, **changes), confirmed)
    assert (view.state, view.created, view.output_uc) == (state, 1_700_000_000, 80)


def test_a_model_that_is_none_is_shown_with_its_error() -> None:
    rung = Rung("n", ModelId("n"), error=ModelNotFound("no model 'n'.", hint="Did you mean m?"))
    assert (rung_view(rung).code, rung_view(rung).error) == ("model_not_found", "no model 'n'. Did you mean m?")
