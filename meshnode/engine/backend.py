"""The lowest seam of the engine: what a loaded model can do, synchronously, token by token.

Two implementations pass one contract suite: :mod:`meshnode.engine.llama` (the only room that knows llama.cpp) and
:mod:`meshnode.engine.fake` (deterministic, no threads, no files). Everything above it (scheduling, sampling,
templates, stop strings) is shared, so that what is tested on the fake holds on the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from meshnode.engine.pipe import EngineInfo
from meshnode.engine.vectors import EmbeddingBackend

Logits = NDArray[np.float32]
"""Shape ``(n_vocab,)``; valid until the next ``decode``."""


class Row(NamedTuple):
    """One token of a batch: of sequence ``seq``, at position ``pos``; ``logits`` asks for its output."""

    seq: int
    token: int
    pos: int
    logits: bool


class Fim(NamedTuple):
    """The tokens with which a model is asked to fill in the middle: they stand before the text before it, before that
    after it, and before the answer."""

    prefix: int
    suffix: int
    middle: int


class NoSpace(Exception):
    """The KV cache has no cells for this batch; nothing was computed."""


class Aborted(Exception):
    """The abort callback stopped the batch; the sequences in it must be cut back by the caller."""


class Backend(Protocol):
    """One model in memory with a KV cache for ``info.n_seq_max`` conversations at a time. Not thread-safe."""

    @property
    def info(self) -> EngineInfo:
        """Shape and placement."""

    @property
    def ids(self) -> int:
        """Sequence ids are ``0 .. ids-1``: one for each conversation, and some under which idle prefixes can stay."""

    @property
    def cuttable(self) -> bool:
        """Whether a sequence can be cut at any token and share any part of another's cells (full attention).

        A memory that keeps a running state or a window of the past cannot: it is taken as a whole or not at all.
        """

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja template, or ``None``."""

    @property
    def bos_text(self) -> str:
        """Text of the begin-of-sequence token ('' if none)."""

    @property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token ('' if none)."""

    @property
    def fim(self) -> Fim | None:
        """What asks the model to fill in, or ``None`` where it was not made for that."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of ``text``.

        ``add_special`` adds BOS and EOS as the model wants; ``parse_special`` reads control tokens.
        """

    def pair(self, query: str, document: str) -> list[int]:
        """Token ids of a question with a text that is to be judged as an answer to it, as a model that ranks wants."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Bytes of one token, perhaps half a character; control tokens are b'' unless ``special``."""

    def ends_generation(self, token: int) -> bool:
        """Whether the token is one of the model's end-of-generation tokens."""

    def is_control(self, token: int) -> bool:
        """Whether the token stands for no text of its own (the ends of generation among them)."""

    def decode(self, rows: Sequence[Row]) -> None:
        """Compute one batch of at most ``n_batch`` rows. Raises NoSpace or Aborted."""

    def logits(self, row: int) -> Logits:
        """Output of row number ``row`` of the last batch, which asked for it."""

    def remove(self, seq: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions ``start <= p < end`` (-1: to the end) of a sequence; False if the model cannot cut there.

        To forget all of it always succeeds.
        """

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Make ``target``, which has nothing there, share ``source``'s cells at ``start <= p < end`` (-1: all)."""

    def embedding(self) -> EmbeddingBackend:
        """What embeds with this model; beside generation it takes memory at its first batch only."""

    def save(self, seq: int) -> NDArray[np.uint8] | None:
        """The whole state of a sequence, in host memory; ``None`` if the model gives none."""

    def restore(self, seq: int, state: NDArray[np.uint8]) -> bool:
        """Give an empty sequence a state that :meth:`save` made of any; False if there is no room: it stays empty."""

    def set_threads(self, decode: int, prefill: int) -> None:
        """From the next batch on: how many threads compute single tokens (``decode``) and prompts (``prefill``)."""

    def set_abort(self, should_abort: Callable[[], bool] | None) -> None:
        """Ask this between layers; true stops the batch (:class:`Aborted`)."""

    def close(self) -> None:
        """Free everything. Idempotent."""
