"""What names stand for, over this node's files and what peers offer."""

from __future__ import annotations

import pytest

from meshnode.domain import ModelCard, PeerId
from meshnode.errors import ModelNotFound
from meshnode.mesh.offers import OfferBook
from meshnode.mesh.resolve import LONGEST_ID, Catalogue, Meaning, Offers, Resolver, resolve
from meshnode.models.library import Library
from tests.kit.askers import model_offer, offer
from tests.kit.dispatching import Shelf
from tests.kit.requests import card

HERE = card("here-1b:q4_0")


FAR = Catalogue(
    [
        offer("bob", model_offer("Far-8B:Q4_K_M", parameters=8), model_offer("other:f16", parameters=3)),
        offer("carol", model_offer("far-8b:q8_0", parameters=8), model_offer("other:f16", parameters=3)),
        offer("dave", model_offer("here-1b:q4_0"), model_offer("here-1b:q8_0"), model_offer("plain")),
        offer("alice", model_offer("own:f16")),
    ],
    but=PeerId("alice"),
)


def meant(name: str, *cards: ModelCard, aliases: dict[str, str] | None = None) -> tuple[str | None, tuple[str, ...]]:
    """The card's id and the keys that a name stands for."""
    meaning = resolve(name, Shelf(*cards), FAR, aliases or {})
    assert meaning.model
    return (meaning.card.id if meaning.card else None), meaning.keys


def test_a_whole_id_is_itself_in_any_case() -> None:
    assert meant("far-8b:q4_k_m") == (None, ("far-8b:q4_k_m",))
    assert meant(" FAR-8B:Q4_K_M ") == (None, ("far-8b:q4_k_m",))
    assert meant("plain") == (None, ("plain",))


def test_a_bare_name_is_any_quantisation_offered() -> None:
    assert meant("Far-8b") == (None, ("far-8b:q4_k_m", "far-8b:q8_0"))
    assert FAR.providers(("far-8b:q4_k_m", "far-8b:q8_0")) == [("bob", "far-8b:q4_k_m"), ("carol", "far-8b:q8_0")]


def test_a_model_that_is_here_and_there_is_both() -> None:
    assert meant("here-1b", HERE) == (HERE.id, ("here-1b:q4_0", "here-1b:q8_0"))
    assert meant("here-1b:q4_0", HERE) == (HERE.id, ("here-1b:q4_0",))
    assert meant("here-1b:q8_0", HERE) == (None, ("here-1b:q8_0",))
    assert meant("mine", HERE) == (HERE.id, ("here-1b:q4_0",))


def test_aliases_lead_to_peers_models_too() -> None:
    assert meant("GPT-4o", aliases={"gpt-4o": "big", "big": "far-8b:q8_0"}) == (None, ("far-8b:q8_0",))


def test_no_name_is_the_default_here_or_what_most_peers_have() -> None:
    assert meant("", HERE) == (HERE.id, ("here-1b:q4_0",))
    assert meant("") == (None, ("other:f16",))
    sizes = [offer("bob", model_offer("small", parameters=1), model_offer("large", parameters=9))]
    assert resolve("", Shelf(), Catalogue(sizes), {}).keys == ("large",)


def test_nothing_at_all_is_said_with_what_to_do() -> None:
    with pytest.raises(ModelNotFound, match="no models here, and no peer offers one"):
        resolve("", Shelf(), Catalogue(), {})
    with pytest.raises(ModelNotFound) as told:
        resolve("x", Shelf(), Catalogue(), {})
    assert "pull" in told.value.hint


@pytest.mark.parametrize(
    ("name", "near"), [("far-8", "far-8b"), ("heer-1b", "here-1b"), ("gtp-4o", "gpt-4o"), ("othr:f16", "other:f16")]
)
def test_an_unknown_name_is_told_the_nearest_here_and_there(name: str, near: str) -> None:
    with pytest.raises(ModelNotFound) as told:
        meant(name, HERE, aliases={"gpt-4o": "nothing"})
    assert near in told.value.hint
    assert told.value.param == "model"


def test_an_unlike_name_is_told_some_that_there_are() -> None:
    with pytest.raises(ModelNotFound, match="no model 'zzzzzzzz'") as told:
        meant("zzzzzzzz", HERE)
    assert told.value.hint.startswith("There are: ")
    with pytest.raises(ModelNotFound) as told:
        meant("z" * 5000)
    assert len(told.value.message) < 200


def test_what_this_node_offers_is_no_peers() -> None:
    assert "own:f16" not in FAR.ids()


def test_ids_that_nobody_can_type_are_passed_over() -> None:
    odd = [model_offer(name) for name in ("a\nb", "ünï", "x" * (LONGEST_ID + 1), " ", "good")]
    assert Catalogue([offer("eve", *odd)]).ids() == ("good",)


def test_the_real_parts_are_what_it_takes() -> None:
    """Held by the type checker: these lines have to pass it."""
    library: type[Resolver] = Library
    offers: type[Offers] = OfferBook
    assert (library, offers, Meaning) == (Library, OfferBook, Meaning)
