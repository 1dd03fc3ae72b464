"""llama.cpp's own samplers and the engine's leave the same tokens with the same probabilities, row for row.

The rows are drawn from fixed seeds, so that none lies on a border where float32 sums (theirs) and float64 sums (ours)
part. Only what is left is compared, never the draw, which is ours.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import msgspec
import numpy as np
import pytest

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits, Row
from meshnode.engine.breakers import Vocabulary
from meshnode.engine.dry import Dry
from meshnode.engine.filters import Chain
from meshnode.engine.llama.loading import open_llama
from meshnode.engine.llama.model import LlamaBackend
from meshnode.engine.mirostat import Mirostat
from meshnode.engine.penalties import Bias, Penalties
from meshnode.engine.pipe import Load
from tests.kit.llama_samplers import accepting, apply, filtered, freed, softmax
from tests.kit.smollm2 import smollm2_path
from tests.kit.tinygguf import write_tiny_gguf

OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
Chooser = np.random.Generator


def rows(chance: Chooser, size: int) -> Iterator[Logits]:
    """Rows of every shape: flat and steep, Zipf's, with a tail nothing reaches, almost all impossible."""
    normal = chance.standard_normal(size)
    zipf = -np.log(chance.permutation(np.arange(1, size + 1)))
    tail = (chance.random(size) < 0.7) & (np.arange(size) > 1)
    for row in (
        normal * 0.5,
        normal * 6,
        normal + 2 * chance.gumbel(size=size),
        0.8 * zipf + 1e-3 * normal,
        2 * zipf + 1e-3 * normal,
        normal - 50 * tail,
        np.where(tail, -np.inf, normal),
        np.where(np.arange(size) < 2, normal, -np.inf),
    ):
        yield row.astype(np.float32)


def assert_alike(ours: dict[int, float], theirs: dict[int, float], what: object) -> None:
    """The same tokens, with the same probabilities up to float32."""
    assert ours.keys() == theirs.keys(), what
    pairs = np.array([(ours[token], theirs[token]) for token in ours])
    assert np.allclose(pairs[:, 0], pairs[:, 1], rtol=1e-3, atol=1e-6), what


def check(how: Sampling, row: Logits) -> None:
    """Both filter one row."""
    found = Chain(how, row.size).narrow(row, lambda: 0.0)
    assert_alike(softmax(found.tokens, found.logits), filtered(row, how).probabilities, how)


# --- the filters ----------------------------------------------------------------------------------

ALONE: list[dict[str, Any]] = [
    {"top_k": 1},
    {"top_k": 40},
    {"top_k": 10**9},
    {"typical_p": 0.0},
    {"typical_p": 0.2},
    {"typical_p": 0.95},
    {"top_p": 0.0},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"min_p": 7.0},
    {"top_n_sigma": 0.3},
    {"top_n_sigma": 1.0},
    {"top_n_sigma": 50.0},
    {"xtc_probability": 1.0, "xtc_threshold": 0.1},
    {"xtc_probability": 1.0, "xtc_threshold": 0.02},
    {"xtc_probability": 1.0, "xtc_threshold": 0.5},
    {"xtc_probability": 1.0, "xtc_threshold": 0.51},
    {"temperature": 0.3},
    {"temperature": 2.0},
]


@pytest.mark.parametrize("fields", ALONE, ids=str)
def test_each_filter_alone_leaves_what_llama_cpps_leaves(fields: dict[str, Any]) -> None:
    chance = np.random.default_rng(11)
    for size in (3, 50, 3000):
        for row in rows(chance, size):
            check(Sampling(**OFF | fields), row)


def some_filters(chance: Chooser) -> Sampling:
    """Filters on and off at random."""
    return Sampling(
        temperature=float(chance.choice([0.2, 0.8, 1.5])),
        top_k=int(chance.choice([0, 1, 5, 40, 1000])),
        top_p=float(chance.choice([0, 0.3, 0.95, 1])),
        min_p=float(chance.choice([0, 0.01, 0.3])),
        typical_p=float(chance.choice([1, 1, 0.9, 0.3])),
        top_n_sigma=float(chance.choice([-1, -1, 0.5, 2.5])),
        xtc_probability=float(chance.choice([0, 1])),
        xtc_threshold=float(chance.choice([0.05, 0.1, 0.3, 0.6])),
    )


def test_any_chain_of_filters_leaves_what_llama_cpps_leaves() -> None:
    chance = np.random.default_rng(5)
    for _ in range(300):
        how, size = some_filters(chance), int(chance.choice([3, 10, 100, 1500]))
        for row in rows(chance, size):
            check(how, row)


def test_whole_vocabularies_take_the_fast_road_to_the_same_tokens() -> None:
    chance = np.random.default_rng(7)
    for row in rows(chance, 49_152):
        check(some_filters(chance), row)
        check(Sampling(), row)


# --- bias and penalties ---------------------------------------------------------------------------


def test_bias_and_penalties_change_what_llama_cpps_change() -> None:
    chance = np.random.default_rng(3)
    row = (3 * chance.standard_normal(200)).astype(np.float32)
    for last_n, repeat, frequency, presence in [(64, 1.3, 0.0, 0.0), (5, 1.0, 0.7, -0.4), (20, 0.8, -0.2, 1.5)]:
        how = Sampling(
            repeat_last_n=last_n, repeat_penalty=repeat, frequency_penalty=frequency, presence_penalty=presence
        )
        history = chance.integers(0, 40, size=50).tolist()
        biases = ((0, 2.5), (7, -1.0), (199, -math.inf))
        pairs = (llama.llama_logit_bias * 3)(*(llama.llama_logit_bias(token, bias) for token, bias in biases))
        with freed(
            llama.llama_sampler_init_logit_bias(200, 3, pairs),
            llama.llama_sampler_init_penalties(200, last_n, repeat, frequency, presence),
        ) as samplers:
            accepting(samplers, history)
            theirs = apply(row, *samplers)
        ours, penalties = row.copy(), Penalties(how, history[:20])
        for token in history[20:]:
            penalties.accept(token)
        Bias(biases).add(ours)
        penalties.penalise(ours)
        assert theirs.tokens.tolist() == np.flatnonzero(ours > -np.inf).tolist()
        assert np.allclose(ours[theirs.tokens], theirs.logits, rtol=1e-5, atol=1e-5)


# --- DRY ------------------------------------------------------------------------------------------

TEXT = (
    'the cat sat on the mat: the cat sat on the mat. The dog sat on the mat\nthe cat sat on"the mat" * the cat'
    "\n\nUser: and the cat sat\n\nUser: and the 日本。 日本。"
)
BREAKERS = [("\n", ":", '"', "*"), (), ("\n\nUser: and",), ("the cat", "e"), ("日本。", "at on", "sat", "x" * 90)]


@pytest.fixture(params=["tiny", pytest.param("smollm2", marks=pytest.mark.model)], scope="module")
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    """A model with its vocabulary."""
    small = request.param == "tiny"
    path = write_tiny_gguf(Path(tmp_path_factory.mktemp("models")) / "tiny.gguf") if small else smollm2_path()
    found = open_llama(Load(path=str(path), n_ctx=64, n_seq_max=1, threads=1, gpu_layers=0))
    yield found
    found.close()


def dry_sampler(backend: LlamaBackend, how: Sampling) -> Any:
    """llama.cpp's, with the same fields."""
    texts = [text.encode() for text in how.dry_sequence_breakers]
    return llama.llama_sampler_init_dry(
        backend._vocabulary,
        how.dry_multiplier,
        how.dry_base,
        how.dry_allowed_length,
        how.dry_penalty_last_n,
        (ctypes.c_char_p * len(texts))(*texts),
        len(texts),
    )


def histories(chance: Chooser, tokens: Sequence[int], number: int) -> list[int]:
    """Few different tokens again and again, or a text and its beginning."""
    if number % 3 == 0:
        return [*tokens[: int(chance.integers(0, len(tokens)))]] * 2
    few = chance.choice(tokens, size=int(chance.choice([2, 4, 12])))
    return [int(token) for token in chance.choice(few, size=int(chance.choice([0, 3, 10, 40, 80])))]


def test_dry_takes_what_llama_cpps_takes(backend: LlamaBackend) -> None:
    chance, size = np.random.default_rng(3), backend.info.n_vocab
    tokenize = partial(backend.tokenize, add_special=False, parse_special=False)
    vocabulary = Vocabulary(size, partial(backend.piece, special=True), tokenize)
    tokens = tokenize(TEXT)
    for number in range(45):
        how = Sampling(
            dry_multiplier=float(chance.choice([0.8, -1, 2])),
            dry_base=float(chance.choice([1.0, 1.1, 1.75, 4, 1e9])),
            dry_allowed_length=int(chance.choice([0, 1, 2, 4, -1])),
            dry_penalty_last_n=int(chance.choice([5, 20, 64, 1000])),
            dry_sequence_breakers=BREAKERS[number % len(BREAKERS)],
        )
        history = histories(chance, tokens, number)
        row = chance.standard_normal(size).astype(np.float32)
        with freed(dry_sampler(backend, how)) as samplers:
            accepting(samplers, history)
            theirs = apply(row, *samplers)
        begun = int(chance.integers(0, len(history) + 1))
        dry, ours = Dry(how, vocabulary.breakers(how.dry_sequence_breakers), history[:begun]), row.copy()
        for token in history[begun:]:
            dry.accept(token)
        dry.penalise(ours)
        expected = np.full(size, -1e30)  # where theirs is minus infinity, ours stays a number
        expected[theirs.tokens] = np.clip(theirs.logits, -1e30, 1e30)
        assert np.allclose(ours, expected, rtol=1e-5, atol=1e-5), how


@pytest.mark.model
def test_of_a_real_models_logits_the_same_is_left() -> None:
    backend = open_llama(Load(path=str(smollm2_path()), n_ctx=256, n_seq_max=1, threads=1, gpu_layers=0))
    chance = np.random.default_rng(2)
    for position, token in enumerate(backend.tokenize(TEXT, add_special=True, parse_special=False)[:12]):
        backend.decode([Row(0, token, position, True)])
        row = backend.logits(0)
        check(Sampling(), row)
        check(Sampling(**OFF | {"min_p": 0.02}), row)
        check(msgspec.structs.replace(some_filters(chance), top_k=40), row)
        for cut in ({"top_p": 0.95}, {"typical_p": 0.9}):
            assert mass_between(Sampling(**OFF | cut), row) < 1e-3, cut
    backend.close()


def mass_between(how: Sampling, row: Logits) -> float:
    """Probability of the tokens that only one of both leaves: a float32 sum of 49,152 numbers is a bit off."""
    probabilities = softmax(np.arange(row.size), row.astype(np.float64))
    found = set(Chain(how, row.size).narrow(row, lambda: 0.0).tokens.tolist())
    return sum(probabilities[token] for token in found ^ set(filtered(row, how).tokens.tolist()))


# --- mirostat -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_leaves_what_llama_cpps_leaves_from_token_to_token(version: int) -> None:
    """Theirs draws; what it drew teaches both. Where version 1's ``k`` overflows theirs, ours keeps all."""
    chance = np.random.default_rng(8)
    for tau, eta, temperature in [(1.0, 0.1, 1.0), (3.0, 0.5, 0.5), (5.0, 0.1, 1.5), (8.0, 0.2, 1.0)]:
        ours = Mirostat(Sampling(mirostat=version, mirostat_tau=tau, mirostat_eta=eta, temperature=temperature))
        theirs = (
            llama.llama_sampler_init_mirostat(1500, 5, tau, eta, 100)
            if version == 1
            else llama.llama_sampler_init_mirostat_v2(5, tau, eta)
        )
        with freed(llama.llama_sampler_init_temp(temperature), theirs) as samplers:
            for row in [row for _ in range(4) for row in rows(chance, 1500) if np.isfinite(row).all()]:
                left, found = apply(row, *samplers), ours.narrow(row)
                probabilities = softmax(found.tokens, found.logits)
                overflowed = version == 1 and len(probabilities) == 1500 and left.tokens.size == 1
                if not overflowed:
                    assert_alike(probabilities, left.probabilities, (tau, eta, temperature))
                ours.observe(-math.log2(left.probabilities[left.drawn]))
