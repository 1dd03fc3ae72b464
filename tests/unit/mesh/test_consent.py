"""What an owner is told of being in a mesh: true of each kind of node."""

from __future__ import annotations

import pytest

from meshnode.mesh.consent import at_start, on_joining


def test_who_joins_learns_that_strangers_come_in_and_how_to_undo_it() -> None:
    assert on_joining(client_only=False, served=[True, False]) == (
        "Joined. Strangers of this network may now use this node's models "
        "(`meshnode unserve MODEL` keeps one back; `meshnode leave` undoes this)."
    )


def test_a_node_without_models_yet_will_lend_those_it_gets() -> None:
    assert on_joining(client_only=False, served=[]) == on_joining(client_only=False, served=[True])


def test_a_node_that_lends_nothing_is_not_told_that_it_does() -> None:
    for text in (
        on_joining(client_only=True, served=[False]),
        on_joining(client_only=True, served=[]),
        on_joining(client_only=False, served=[False, False]),
    ):
        assert text.startswith("Joined. ")
        assert "may now use" not in text
    assert "can read its prompt" in on_joining(client_only=True, served=[])
    assert "`meshnode serve MODEL` lends one" in on_joining(client_only=False, served=[False])


@pytest.mark.parametrize(("peers", "said"), [(0, "no peer yet"), (1, "1 peer."), (3, "3 peers.")])
def test_a_start_says_the_network_and_how_many_are_there(peers: int, said: str) -> None:
    text = at_start(joined=True, network="public", peers=peers, client_only=False, served=[True])
    assert text.startswith("public, ")
    assert said in text
    assert "Strangers of this network may use this node's models" in text


def test_a_start_alone_says_how_to_join() -> None:
    assert at_start(joined=False, network="public", peers=0, client_only=False, served=[True]) == (
        "alone: `meshnode join ADDR` (a network's first node: `meshnode up --open`)"
    )


def test_a_start_of_a_client_promises_nothing_to_strangers() -> None:
    assert "Strangers" not in at_start(joined=True, network="home", peers=2, client_only=True, served=[])
