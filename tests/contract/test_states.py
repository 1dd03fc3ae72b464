"""One suite for every kind of memory: what is saved comes back, and an answer that began in a cache is the same answer.

Attention, a running state, a state beside attention, a sliding window: llama.cpp on small random models, and the fake.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from meshnode.domain import Stopping
from meshnode.engine.backend import Backend, Row
from meshnode.engine.fake import FakeBackend
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.pipe import Load
from meshnode.engine.store import LEAST
from meshnode.events import Started
from tests.kit.driven import Driven, asking
from tests.kit.oddgguf import KINDS, write_odd_gguf
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import write_tiny_gguf

CELLS, SLOTS = 1024, 4
HOST = 1 << 28
SHORT = Stopping(max_tokens=12, ignore_eos=True)
SYSTEM = "You are a careful assistant that says what it knows and nothing else, in few words and plain ones. " * 2
LLAMAS = ("attention", *KINDS)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    """llama.cpp with a model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    paths = {kind: write_odd_gguf(kind, folder / f"{kind}.gguf") for kind in KINDS}
    paths["attention"] = write_tiny_gguf(folder / "attention.gguf")
    backends = {kind: open_llama(load(path)) for kind, path in paths.items()}
    yield dict(backends)
    for backend in backends.values():
        backend.close()


def load(path: Path) -> Load:
    """Small, and on one thread."""
    return Load(path=str(path), n_ctx=CELLS, n_seq_max=SLOTS, n_batch=256, n_ubatch=64, threads=1, gpu_layers=0)


@pytest.fixture(params=["fake", "fake as a whole", *LLAMAS])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend, with an empty cache."""
    if request.param.startswith("fake"):
        yield FakeBackend(CELLS, SLOTS, n_batch=256, cuttable=request.param == "fake")
        return
    found: Backend = request.getfixturevalue("loaded")[request.param]
    for seq in range(found.ids):
        found.remove(seq)
    yield found


def compute(
    backend: Backend, seq: int, tokens: list[int], start: int = 0
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Compute tokens; a copy of the logits after the last one."""
    for first in range(0, len(tokens), 64):
        part = tokens[first : first + 64]
        rows = [Row(seq, t, start + first + n, first + n == len(tokens) - 1) for n, t in enumerate(part)]
        backend.decode(rows)
    return backend.logits(len(rows) - 1).copy()


def text(backend: Backend, words: str = SYSTEM) -> list[int]:
    """Tokens of some words."""
    return backend.tokenize(words, add_special=True, parse_special=False)


def test_a_saved_state_goes_on_under_another_id(backend: Backend) -> None:
    *head, last = text(backend)
    compute(backend, 0, head)
    state = backend.save(0)
    assert state is not None
    whole = compute(backend, 0, [last], len(head))
    backend.remove(0)
    assert backend.restore(2, state)
    assert np.allclose(compute(backend, 2, [last], len(head)), whole, atol=0.05)


def test_a_state_can_be_brought_back_more_than_once(backend: Backend) -> None:
    *head, last = text(backend)
    compute(backend, 0, head)
    state = backend.save(0)
    assert state is not None
    outputs = []
    for seq in (1, 2):
        assert backend.restore(seq, state)
        outputs.append(compute(backend, seq, [last], len(head)))
    assert np.allclose(outputs[0], outputs[1], atol=0.05)


def test_a_cut_that_was_granted_is_a_cut(backend: Backend) -> None:
    tokens = text(backend)
    whole = compute(backend, 0, tokens)
    for start in (len(tokens) - 1, len(tokens) // 2):
        if backend.remove(0, start):
            assert np.allclose(compute(backend, 0, tokens[start:], start), whole, atol=0.2)
        else:
            backend.remove(0)
            compute(backend, 0, tokens)


def cached(driven: Driven, number: int) -> int:
    """Prompt tokens that request found computed."""
    return next(event.cached_tokens for event in driven.events(number) if isinstance(event, Started))


def answers(backend: Backend, prompts: list[str], *, host_bytes: int, cache: bool) -> tuple[list[list[int]], list[int]]:
    """The prompts one after the other: their answers, and what each found in the cache."""
    driven = Driven(backend, step_tokens=48, host_bytes=host_bytes)
    numbers = []
    for prompt in prompts:
        numbers.append(driven.submit(asking(prompt, stopping=SHORT, cache_prompt=cache)))
        driven.run()
    return [driven.tokens(number) for number in numbers], [cached(driven, number) for number in numbers]


def conversation(backend: Backend, turns: int) -> list[str]:
    """Prompts of which each has the last one and its answer in it."""
    prompts = [SYSTEM + "Q: What is this about? A:"]
    for turn in range(1, turns):
        (said,), _ = answers(backend, prompts[-1:], host_bytes=0, cache=False)
        words = b"".join(backend.piece(token) for token in said).decode("utf-8", "replace")
        prompts.append(f"{prompts[-1]}{words} Q: And what about number {turn}, and the one after that? A:")
    return prompts


def test_a_conversation_goes_on_where_it_was(backend: Backend) -> None:
    prompts = conversation(backend, 4)
    computed, none = answers(backend, prompts, host_bytes=HOST, cache=False)
    recalled, found = answers(backend, prompts, host_bytes=HOST, cache=True)
    assert recalled == computed
    assert none == [0] * 4
    lengths = [len(text(backend, prompt)) for prompt in prompts]
    assert all(hit >= before - LEAST for hit, before in zip(found[1:], lengths, strict=False)), (found, lengths)


def test_a_common_beginning_is_found_by_the_third_at_the_latest(backend: Backend) -> None:
    prompts = [SYSTEM + f"{n} bottles. Q: how many? A:" for n in range(4)]
    computed, _ = answers(backend, prompts, host_bytes=HOST, cache=False)
    recalled, found = answers(backend, prompts, host_bytes=HOST, cache=True)
    assert recalled == computed
    assert min(found[2:]) >= len(SYSTEM) // 8
    assert found[0] == 0


def test_those_who_come_together_compute_their_beginning_once(backend: Backend) -> None:
    prompts = [SYSTEM + f"{n} bottles. Q: how many? A:" for n in range(8)]
    computed, _ = answers(backend, prompts, host_bytes=HOST, cache=False)
    driven = Driven(backend, step_tokens=48, host_bytes=HOST)
    numbers = [driven.submit(asking(prompt, stopping=SHORT)) for prompt in prompts]
    driven.run()
    assert [cached(driven, number) > 0 for number in numbers] == [False] + [True] * 7
    if isinstance(backend, FakeBackend):
        assert [driven.tokens(number) for number in numbers] == computed


def test_several_answers_fork_after_the_prompt(backend: Backend) -> None:
    driven = Driven(backend, step_tokens=48, host_bytes=HOST)
    number = driven.submit(asking(SYSTEM, stopping=SHORT, choices=3))
    driven.run()
    said = [driven.text(number, choice) for choice in range(3)]
    assert said[0] == said[1] == said[2] != ""
    prefilled = sum(step.prefilled for step in driven.steps)
    assert prefilled < 2 * len(text(backend)), "the prompt was computed once"


def test_nothing_is_left_of_a_request_that_asks_for_it(backend: Backend) -> None:
    driven = Driven(backend, step_tokens=48, host_bytes=HOST)
    for _ in range(2):
        number = driven.submit(asking(SYSTEM, stopping=SHORT, cache_prompt=False))
        driven.run()
        assert cached(driven, number) == 0
    assert driven.loop.gauge().kv_idle == 0


def test_cancelled_and_aborted_prompts_do_no_harm(backend: Backend) -> None:
    (alone,), _ = answers(backend, [SYSTEM], host_bytes=0, cache=False)
    driven = Driven(backend, step_tokens=48, host_bytes=HOST)
    first = driven.submit(asking(SYSTEM + "and more", stopping=SHORT))
    driven.step()
    driven.cancel(first)
    number = driven.submit(asking(SYSTEM, stopping=SHORT))
    driven.run()
    assert driven.tokens(number) == alone


@pytest.mark.model
def test_smollm2_says_the_same_from_a_state() -> None:
    backend = open_llama(load(smollm2_path()))
    prompts = conversation(backend, 3)
    computed, _ = answers(backend, prompts, host_bytes=HOST, cache=False)
    recalled, found = answers(backend, prompts, host_bytes=HOST, cache=True)
    backend.close()
    assert found[1] > 0 < found[2]
    same = sum(one == other for one, other in zip(computed, recalled, strict=True))
    assert same >= 2, "an answer may differ where the best two tokens are nearly tied"
