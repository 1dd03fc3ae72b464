"""The deterministic backend tells on cache mistakes."""

from __future__ import annotations

import pytest

from meshnode.engine.backend import Row
from meshnode.engine.fake import BOS, EOS, FakeBackend


def fill(backend: FakeBackend, seq: int, tokens: list[int], start: int = 0) -> list[float]:
    """Compute tokens; the logits after the last one."""
    rows = [Row(seq, token, start + n, n == len(tokens) - 1) for n, token in enumerate(tokens)]
    backend.decode(rows)
    return [float(logit) for logit in backend.logits(len(rows) - 1)]


def test_one_token_more_or_less_anywhere_changes_the_logits() -> None:
    tokens = list(b"hello world")
    outputs = {tuple(fill(FakeBackend(), 0, tokens))}
    for index in range(len(tokens)):
        outputs.add(tuple(fill(FakeBackend(), 0, [*tokens[:index], *tokens[index + 1 :]])))
        outputs.add(tuple(fill(FakeBackend(), 0, [*tokens[:index], ord("~"), *tokens[index:]])))
    assert len(outputs) == 2 * len(tokens), "dropping either l of 'hello' gives the same tokens"


def test_a_row_that_does_not_continue_its_sequence_is_refused() -> None:
    backend = FakeBackend()
    fill(backend, 0, [1, 2, 3])
    with pytest.raises(ValueError, match="does not continue"):
        backend.decode([Row(0, 4, 5, True)])


def test_shared_cells_count_once() -> None:
    backend = FakeBackend()
    fill(backend, 0, [1] * 10)
    backend.copy(0, 1)
    assert backend.cells_used == 10
    backend.remove(0)
    assert backend.cells_used == 10
    backend.remove(1)
    assert backend.cells_used == 0


def test_scripted_answer_survives_being_recomputed() -> None:
    backend = FakeBackend(script=lambda tokens: b"yes" if tokens[-1] == ord("?") else b"no")
    prompt = list(b"really?")

    def best(logits: list[float]) -> int:
        return logits.index(max(logits))

    assert best(fill(backend, 0, prompt)) == ord("y")
    assert best(fill(backend, 0, [ord("y")], 7)) == ord("e")
    backend.remove(0)
    assert best(fill(backend, 0, [*prompt, ord("y"), ord("e")])) == ord("s")
    assert best(fill(backend, 0, [ord("s")], 9)) == EOS


def test_unscripted_answers_are_printable() -> None:
    backend = FakeBackend()
    logits = fill(backend, 0, [BOS, 5])
    best = sorted(range(len(logits)), key=lambda token: -logits[token])[:20]
    assert all(token == EOS or chr(token).isprintable() for token in best)


def test_control_tokens_are_read_only_where_they_may_be() -> None:
    backend = FakeBackend()
    assert backend.tokenize("a<|eos|>", add_special=True, parse_special=True) == [BOS, ord("a"), EOS]
    assert EOS not in backend.tokenize("a<|eos|>", add_special=False, parse_special=False)
    assert backend.piece(EOS) == b""
    assert backend.piece(EOS, special=True) == b"<|eos|>"
