"""What ``echo`` repeats of a completion's prompt where that is token ids: their text, which only the model can tell."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from meshnode.api.context import ApiContext
from meshnode.api.schema import Ask
from meshnode.domain import GenerationRequest, Kind, RequestId, Sampling, Stopping
from meshnode.errors import InternalFault
from meshnode.events import Counted, Failed, error_of
from meshnode.gateway.principal import Principal
from meshnode.mesh.answer import Dispatcher


async def read_back(context: ApiContext, _: Principal, ask: Ask) -> Ask:
    """The same request, with nothing but texts among the ``prompts`` of its echo. Raises MeshnodeError."""
    prompts: Sequence[str | Sequence[int]] = ask.echo.get("prompts", ())
    if all(isinstance(prompt, str) for prompt in prompts):
        return ask
    texts = [
        prompt if isinstance(prompt, str) else await _text(context.dispatcher, _to_count(ask.request, prompt, place))
        for place, prompt in enumerate(prompts)
    ]
    return ask._replace(echo={**ask.echo, "prompts": texts})


def _to_count(request: GenerationRequest, prompt: Sequence[int], place: int) -> GenerationRequest:
    return msgspec.structs.replace(
        request,
        id=RequestId(f"{request.id}.echo{place}"),
        kind=Kind.COUNT,
        prompt=tuple(prompt),
        prompts=(),
        suffix=None,
        constraint=None,
        sampling=Sampling(),
        stopping=Stopping(),
        choices=1,
        top_logprobs=None,
    )


async def _text(dispatcher: Dispatcher, request: GenerationRequest) -> str:
    async with dispatcher.open(request) as answer:
        async for event in answer:
            if isinstance(event, Counted):
                return event.text
            if isinstance(event, Failed):
                raise error_of(event)
    raise InternalFault("a prompt was not read back.")
