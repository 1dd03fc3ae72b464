"""What an answer repeats of a prompt that is token ids."""

from __future__ import annotations

import pytest

from meshnode.api.completions_schema import parse_completion
from meshnode.api.read_back import read_back
from meshnode.api.schema import Ask, Asker
from meshnode.domain import OWNER, Kind, RequestId
from meshnode.errors import CapabilityUnavailable, InternalFault, MeshnodeError
from meshnode.events import Counted, Failed, Finished, Started, Usage
from meshnode.gateway.principal import Principal
from tests.kit.api import Scripted, Step, a_context

ASKER = Asker(RequestId("r1"), OWNER)
READ: list[Step] = [Started(2), Counted(2, (1, 2), "read"), Finished(Usage(prompt_tokens=2))]


async def prepared(body: bytes, scripted: Scripted) -> Ask:
    """A completion request before it is carried out."""
    return await read_back(a_context(scripted, []), Principal(OWNER, admin=True), parse_completion(body, ASKER))


async def test_token_ids_are_read_by_the_model_and_texts_stay() -> None:
    scripted = Scripted(READ)
    ask = await prepared(b'{"prompt": ["said", [1, 2]], "echo": true, "suffix": "z", "n": 2}', scripted)
    assert ask.echo["prompts"] == ["said", "read"]
    assert ask.request.prompts == ("said", (1, 2))
    (request,) = scripted.requests
    assert (request.kind, request.prompt, request.prompts, request.suffix) == (Kind.COUNT, (1, 2), (), None)
    assert request.id != ask.request.id


@pytest.mark.parametrize("body", [b'{"prompt": "said", "echo": true}', b'{"prompt": [1, 2]}'])
async def test_nothing_is_asked_where_nothing_is_to_be_read(body: bytes) -> None:
    scripted = Scripted(READ)
    ask = await prepared(body, scripted)
    assert ask == parse_completion(body, ASKER)
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("scripted", "kind"),
    [
        (Scripted([], refusal=CapabilityUnavailable("counts no tokens.")), CapabilityUnavailable),
        (Scripted([Failed("capability_unavailable", "no.")]), CapabilityUnavailable),
        (Scripted([Started(1)]), InternalFault),
    ],
)
async def test_where_nobody_can_the_request_is_refused(scripted: Scripted, kind: type[MeshnodeError]) -> None:
    with pytest.raises(kind):
        await prepared(b'{"prompt": [1, 2], "echo": true}', scripted)
