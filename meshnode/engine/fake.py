"""A backend without a model: deterministic, byte by byte, with no threads and no files.

Its vocabulary is the 256 bytes and three control tokens. The logits after a token are a function of *all* tokens of
its sequence up to there, as they lie in the cache, so that a mistake in cache handling changes the answer. The
cache is unified: sequences share ``n_ctx`` cells, and copies share theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from meshnode.engine.backend import Aborted, Fim, Logits, NoSpace, Row
from meshnode.engine.fake_embedding import WIDTH, FakeEmbedding
from meshnode.engine.pipe import Device, EngineInfo

BOS, EOS, EOT = 256, 257, 258
"""The control tokens."""
VOCABULARY = 259
_CONTROL = {b"<|bos|>": BOS, b"<|eos|>": EOS, b"<|eot|>": EOT}
_NAMES = {token: name for name, token in _CONTROL.items()}
_CONTROL_TEXT = re.compile(rb"(<\|(?:bos|eos|eot)\|>)")
_PRINTABLE = np.array([*b"etaoin shrdlucmfwypvbgkjqxz ETAOIN.,"], dtype=np.int64)
_MASK = 2**64 - 1
_END_IN = 48
"""An unscripted answer ends on average after about so many tokens."""
_UBATCH = 64
"""Rows between two looks at the abort callback; what was computed before an abort stays, as in llama.cpp."""

Script = Callable[[Sequence[int]], bytes]
"""From the tokens of a prompt to the bytes of its answer, which end the generation."""


class _Cell:
    """One position of one or several sequences: the hash of all tokens up to it, and the answer under way."""

    __slots__ = ("answer", "digest", "holders", "said", "token")

    def __init__(self, token: int, before: _Cell | None, seq: int) -> None:
        self.token = token
        self.holders = {seq}
        self.digest: int = _digest(before, token)
        self.answer: bytes | None = before.answer if before else None
        self.said: int = before.said + 1 if before else 0


class FakeBackend:
    """A :class:`meshnode.engine.backend.Backend`.

    ``script`` forces answers: it is asked at the first token of a sequence whose output is wanted, the end of its
    prompt. ``before_decode`` is called with each batch and may raise, or take virtual time. ``ids`` 0 gives as many
    spare sequence ids as there are conversations.
    """

    def __init__(
        self,
        n_ctx: int = 4096,
        n_seq_max: int = 16,
        *,
        n_batch: int = 2048,
        ids: int = 0,
        script: Script | None = None,
        template: str | None = None,
        before_decode: Callable[[Sequence[Row]], None] | None = None,
        cuttable: bool = True,
        fim: Fim | None = None,
        kinds: tuple[str, ...] = ("generate", "embed"),
    ) -> None:
        self.n_batch = n_batch
        self.batches: list[tuple[Row, ...]] = []
        """Every batch that was computed, for tests to look at."""
        self.cells_used = 0
        """Cells that any sequence holds."""
        self.threads = (1, 1)
        """Threads to decode with, and to read prompts with."""
        self._template = template
        self._fim = fim
        self._kinds = kinds
        self._script = script
        self._before_decode = before_decode
        self._cuttable = cuttable
        self._n_ctx = n_ctx
        self._n_seq_max = n_seq_max
        self._ids = max(n_seq_max, ids or 2 * n_seq_max) if cuttable else n_seq_max
        self._sequences: dict[int, list[_Cell | None]] = {}
        self._answers: dict[int, bytes] = {}
        self._outputs: dict[int, _Cell] = {}
        self._should_abort: Callable[[], bool] | None = None
        self.embeds = FakeEmbedding(VOCABULARY, n_ctx)
        """What embeds; a test may put another in its place."""

    @property
    def info(self) -> EngineInfo:
        """Shape: one layer, on a CPU."""
        device = Device(name="FAKE", description="deterministic backend", kind="cpu", memory_total=0, memory_free=0)
        return EngineInfo(
            n_ctx=self._n_ctx,
            n_ctx_train=self._n_ctx,
            n_seq_max=self._n_seq_max,
            n_vocab=VOCABULARY,
            n_layers=1,
            gpu_layers=0,
            devices=(device,),
            used_devices=(device.name,),
            backends=("FAKE",),
            system_info="fake",
            threads=1,
            threads_batch=1,
            n_params=0,
            size_bytes=0,
            has_template=self._template is not None,
            template_sha256="",
            kinds=self._kinds,
            embedding_length=WIDTH,
        )

    @property
    def ids(self) -> int:
        """As many as were asked for."""
        return self._ids

    @property
    def cuttable(self) -> bool:
        """As it was made."""
        return self._cuttable

    @property
    def chat_template(self) -> str | None:
        """The template given."""
        return self._template

    @property
    def bos_text(self) -> str:
        """Text of the begin-of-sequence token."""
        return _NAMES[BOS].decode()

    @property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token."""
        return _NAMES[EOS].decode()

    @property
    def fim(self) -> Fim | None:
        """As it was given."""
        return self._fim

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The bytes of ``text``; BOS in front if ``add_special``."""
        data = text.encode("utf-8", "surrogatepass")
        tokens = [BOS] if add_special else []
        if not parse_special:
            return [*tokens, *data]
        for part in _CONTROL_TEXT.split(data):
            tokens += [_CONTROL[part]] if part in _CONTROL else part
        return tokens

    def pair(self, query: str, document: str) -> list[int]:
        """Both texts, each with EOS after it."""
        return [BOS, *query.encode("utf-8", "replace"), EOS, *document.encode("utf-8", "replace"), EOS]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The byte itself; control tokens are empty unless ``special``."""
        if token < 256:
            return bytes((token,))
        return _NAMES[token] if special else b""

    def ends_generation(self, token: int) -> bool:
        """EOS and EOT do."""
        return token in (EOS, EOT)

    def is_control(self, token: int) -> bool:
        """BOS, EOS and EOT are."""
        return token >= 256

    def decode(self, rows: Sequence[Row]) -> None:
        """Append rows to their sequences. Raises NoSpace, Aborted, or ValueError on a batch no backend would take."""
        self._check(rows)
        if self._before_decode is not None:
            self._before_decode(rows)
        if self.cells_used + len(rows) > self._n_ctx:
            raise NoSpace
        self._outputs = {}
        for index, row in enumerate(rows):
            if index % _UBATCH == 0 and self._should_abort is not None and self._should_abort():
                raise Aborted
            self._append(index, row)
        self.batches.append(tuple(rows))

    def logits(self, row: int) -> Logits:
        """The function of the sequence up to ``row``. Raises KeyError for a row that asked for nothing."""
        cell = self._outputs[row]
        if cell.answer is not None:
            return _forced(cell.answer[cell.said] if cell.said < len(cell.answer) else EOS)
        return _chosen(cell.digest)

    def remove(self, seq: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions; those in the middle leave a hole, which must be filled before the sequence goes on."""
        cells = self._sequences.get(seq, [])
        end = len(cells) if end < 0 else min(end, len(cells))
        if start < end and not self._cuttable and (start > 0 or end < len(cells)):
            return False
        for place in range(start, end):
            cell, cells[place] = cells[place], None
            if cell is not None:
                cell.holders.discard(seq)
                self.cells_used -= not cell.holders
        while cells and cells[-1] is None:
            cells.pop()
        return True

    def copy(self, source: int, target: int, start: int = 0, end: int = -1) -> None:
        """Share cells. Raises ValueError where ``target`` has its own, or would become another text."""
        cells = self._sequences.setdefault(target, [])
        taken = self._sequences.get(source, [])[start : None if end < 0 else end]
        if not self._cuttable and (start > 0 or len(taken) < len(self._sequences.get(source, []))):
            raise ValueError("this memory shares a sequence as a whole only")
        cells += [None] * (start + len(taken) - len(cells))
        for place, cell in enumerate(taken, start):
            if cell is None or cells[place] is not None:
                raise ValueError(f"position {place} cannot be shared from {source} to {target}")
            cells[place] = cell
            cell.holders.add(target)
        after = start + len(taken)
        if taken and after < len(cells) and not _follows(taken[-1], cells[after]):
            raise ValueError("the tokens shared are not those that were there")

    def embedding(self) -> FakeEmbedding:
        """Vectors without a model."""
        return self.embeds

    def save(self, seq: int) -> NDArray[np.uint8] | None:
        """The tokens."""
        tokens = [cell.token for cell in self._sequences.get(seq, []) if cell is not None]
        return np.array(tokens, dtype=np.uint16).view(np.uint8)

    def restore(self, seq: int, state: NDArray[np.uint8]) -> bool:
        """Lay the tokens down again. Raises ValueError where the sequence is not empty."""
        if self._sequences.get(seq):
            raise ValueError(f"sequence {seq} has cells already")
        tokens = [int(token) for token in state.view(np.uint16)]
        if self.cells_used + len(tokens) > self._n_ctx:
            return False
        for place, token in enumerate(tokens):
            self._append(place, Row(seq, token, place, False))
        return True

    def set_threads(self, decode: int, prefill: int) -> None:
        """Keep the numbers; they change nothing here."""
        self.threads = (decode, prefill)

    def set_abort(self, should_abort: Callable[[], bool] | None) -> None:
        """Ask this every 64 rows."""
        self._should_abort = should_abort

    def close(self) -> None:
        """Forget everything."""
        self._sequences.clear()
        self._outputs.clear()
        self.cells_used = 0

    def _check(self, rows: Sequence[Row]) -> None:
        if not 0 < len(rows) <= self.n_batch:
            raise ValueError(f"a batch of {len(rows)} rows; 1 to {self.n_batch} are possible")
        if not all(0 <= row.seq < self._ids and 0 <= row.token < VOCABULARY for row in rows):
            raise ValueError("a batch names a token or a sequence that does not exist")

    def _append(self, index: int, row: Row) -> None:
        cells = self._sequences.setdefault(row.seq, [])
        if row.pos != len(cells) or None in cells[-1:]:
            raise ValueError(f"row {index} does not continue its sequence")
        cell = _Cell(row.token, cells[-1] if cells else None, row.seq)
        cells.append(cell)
        self.cells_used += 1
        if cell.answer is None and self._script is not None:
            self._find_answer(cell, cells, wanted=row.logits)
        if row.logits:
            self._outputs[index] = cell

    def _find_answer(self, cell: _Cell, cells: list[_Cell | None], *, wanted: bool) -> None:
        """An answer begins where output is first wanted, and again there when the sequence is recomputed."""
        if wanted and self._script is not None and cell.digest not in self._answers:
            self._answers[cell.digest] = self._script([c.token for c in cells if c is not None])
        if cell.digest in self._answers:
            cell.answer, cell.said = self._answers[cell.digest], 0


def _digest(before: _Cell | None, token: int) -> int:
    return _mix((before.digest if before else 0) * 31 + token + 1)


def _follows(before: _Cell | None, cell: _Cell | None) -> bool:
    return cell is None or cell.digest == _digest(before, cell.token)


def _mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def _forced(token: int) -> Logits:
    row = np.full(VOCABULARY, -30.0, dtype=np.float32)
    row[token] = 30.0
    return row


def _chosen(digest: int) -> Logits:
    """Logits over printable bytes and EOS that differ for every digest."""
    row = np.full(VOCABULARY, -30.0, dtype=np.float32)
    with np.errstate(over="ignore"):
        bits = np.uint64(digest) * (np.arange(_PRINTABLE.size, dtype=np.uint64) * np.uint64(2) + np.uint64(1))
    row[_PRINTABLE] = (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**21)
    row[EOS] = 30.0 if digest % _END_IN == 0 else -30.0
    return row
