"""What a prompt is to the model, told without computing anything: its tokens, and its text. Synchronous.

It takes no slot and no place in the queue, so that it is answered between two steps however busy the model is, and it
is not bound by the context: a prompt that is too long has a length all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from meshnode.domain import GenerationRequest
from meshnode.engine.admit import Admission, Reading, refuse_shape
from meshnode.engine.backend import Backend
from meshnode.events import Counted, Event, Finished, Started, Timings, Usage


def counted(
    request: GenerationRequest, admission: Admission, backend: Backend, clock: Callable[[], float]
) -> Iterator[Event]:
    """All events of a request to count. Raises a RequestError before the first of them."""
    began = clock()
    refuse_shape(request)
    admission.check_token_ids(request)
    reading = admission.read(request)
    piece = partial(backend.piece, special=True)
    bare = isinstance(request.prompt, tuple)
    pieces = tuple(map(piece, reading.tokens)) if bare or request.echo else ()
    text = b"".join(pieces).decode("utf-8", "replace") if bare else reading.text
    return _events(reading, text, pieces if request.echo else (), 1000 * (clock() - began))


def _events(reading: Reading, text: str, pieces: tuple[bytes, ...], took_ms: float) -> Iterator[Event]:
    tokens = len(reading.tokens)
    yield Started(tokens)
    yield Counted(tokens, tuple(reading.tokens), text, pieces)
    yield Finished(Usage(prompt_tokens=tokens), Timings(prompt_ms=took_ms))
