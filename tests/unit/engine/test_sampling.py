"""The sampler draws what a slow, obvious reading of the rules draws, at any speed-up and in any batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.domain import Sampling
from meshnode.engine.backend import Logits
from meshnode.engine.breakers import Vocabulary
from meshnode.engine.noise import noise
from meshnode.engine.sampling import Mask, Sampler
from meshnode.errors import InvalidField, ModelFailed
from tests.kit.splitmix import gumbel

# --- the obvious way --------------------------------------------------------------------------


def penalised(sampling: Sampling, row: list[float], history: Sequence[int]) -> list[float]:
    """Bias, then penalties, as llama.cpp applies them; float32 between the steps."""
    row = [float(np.float32(value + dict(sampling.logit_bias).get(token, 0.0))) for token, value in enumerate(row)]
    recent = history if sampling.repeat_last_n < 0 else history[max(0, len(history) - sampling.repeat_last_n) :]
    for token in set(recent):
        value = row[token]
        value = value * sampling.repeat_penalty if value <= 0 else value / sampling.repeat_penalty
        value -= recent.count(token) * sampling.frequency_penalty + sampling.presence_penalty
        row[token] = float(np.float32(value))
    return row


def reference(sampling: Sampling, logits: Sequence[float], *, seed: int, choice: int, position: int) -> int:
    """Draw one token from adjusted logits by sorting everything, top-k, top-p, min-p, temperature, Gumbel-max."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    peak = logits[order[0]]
    if sampling.temperature <= 0:
        return order[0]
    if sampling.top_k > 0:
        order = order[: sampling.top_k]
    if sampling.top_p < 1:
        mass = [math.exp(logits[token] - peak) for token in order]
        enough = next(n for n in range(1, len(mass) + 1) if sum(mass[:n]) >= sampling.top_p * sum(mass))
        order = order[:enough]
    if sampling.min_p > 0:
        order = [token for token in order if logits[token] >= peak + math.log(sampling.min_p)]
    scores = {
        token: (logits[token] - peak) / sampling.temperature + gumbel(seed, choice, position, token) for token in order
    }
    return max(scores, key=lambda token: scores[token])


def row_of(values: Sequence[float]) -> Logits:
    """Logits as a backend gives them."""
    return np.array(values, dtype=np.float32)


samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([-1.0, 0.0, 0.1, 0.8, 1.0, 3.0]),
    top_k=st.sampled_from([-1, 0, 1, 2, 5, 40, 1000]),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    repeat_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    presence_penalty=st.sampled_from([0.0, -0.4]),
    repeat_last_n=st.sampled_from([-1, 0, 1, 3, 64]),
    logit_bias=st.sampled_from([(), ((0, 2.5), (1, -100.0))]),
)
"""Every filter on and off."""
seeds = st.integers(-(2**63), 2**64 - 1)


@st.composite
def rows(draw: st.DrawFn) -> Logits:
    """Short rows with ties, and long ones that take the fast road."""
    values = draw(st.lists(st.floats(-20, 20, width=32) | st.sampled_from([0.0, 1.5]), min_size=3, max_size=40))
    long = draw(st.booleans())
    return np.resize(row_of(values), 1500) + (np.arange(1500) % 7).astype(np.float32) if long else row_of(values)


# --- the same as the obvious way --------------------------------------------------------------


@settings(deadline=None)
@given(samplings, rows(), seeds, st.integers(0, 3), st.integers(0, 9), st.lists(st.integers(0, 2), max_size=6))
def test_draws_what_the_obvious_way_draws(
    sampling: Sampling, logits: Logits, seed: int, choice: int, position: int, history: list[int]
) -> None:
    half = len(history) // 2
    sampler = Sampler(sampling, seed=seed, choice=choice, prompt=history[:half])
    for token in history[half:]:
        sampler.accept(token)
    adjusted = penalised(sampling, logits.tolist(), history)
    expected = reference(sampling, adjusted, seed=seed, choice=choice, position=position)
    assert sampler.draw(logits, position) == expected


@pytest.mark.parametrize("top_k", [0, 1, 40, 3000, 60_000])
@pytest.mark.parametrize("top_p", [0.9999, 0.9, 1.0])
def test_a_whole_vocabulary_takes_the_fast_road_to_the_same_token(top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(7).standard_normal(5_000).astype(np.float32) * 2
    sampling = Sampling(top_k=top_k, top_p=top_p, min_p=0.001, temperature=1.5)
    sampler = Sampler(sampling, seed=3, choice=0)
    for position in range(3):
        assert sampler.draw(logits, position) == reference_fast(sampling, logits, seed=3, position=position)


def reference_fast(sampling: Sampling, logits: Logits, *, seed: int, position: int) -> int:
    """:func:`reference` with one full sort and cumulative sums, for rows too long for it."""
    order = np.lexsort((np.arange(logits.size), -logits))
    order = order[: sampling.top_k] if sampling.top_k > 0 else order
    scaled = logits[order].astype(np.float64) - float(logits.max())
    mass = np.cumsum(np.exp(scaled))
    if sampling.top_p < 1:
        order = order[: int((mass < sampling.top_p * mass[-1]).sum()) + 1]
    order = order[scaled[: order.size] >= math.log(sampling.min_p)]
    scores = scaled[: order.size] / sampling.temperature + noise(seed, 0, position, order)
    return int(order[scores.argmax()])


# --- what seeds promise -----------------------------------------------------------------------


def drawn(sampling: Sampling, logits: Logits, *, seed: int, choice: int = 0, count: int = 30) -> list[int]:
    """The tokens of one choice over the same logits again and again."""
    sampler = Sampler(sampling, seed=seed, choice=choice)
    return [sampler.draw(logits, position) for position in range(count)]


def test_a_seed_repeats_whatever_else_is_drawn_in_between() -> None:
    logits = row_of([0.0] * 20)
    free = Sampling(top_k=0, top_p=1.0, min_p=0.0)
    alone = {(seed, choice): drawn(free, logits, seed=seed, choice=choice) for seed in (1, 2) for choice in (0, 1)}
    samplers = {key: Sampler(free, seed=key[0], choice=key[1]) for key in reversed(alone)}
    together: dict[tuple[int, int], list[int]] = {key: [] for key in samplers}
    for position in range(30):
        for key, sampler in samplers.items():
            together[key].append(sampler.draw(logits, position))
    assert together == alone
    assert len({tuple(tokens) for tokens in alone.values()}) == 4


def test_an_answer_goes_on_from_any_position_with_the_same_tokens() -> None:
    logits = row_of(np.linspace(0, 3, 50).tolist())
    whole = drawn(Sampling(), logits, seed=9)
    resumed = Sampler(Sampling(), seed=9, choice=0)
    assert [resumed.draw(logits, position) for position in range(12, 30)] == whole[12:]


@pytest.mark.parametrize("vary", ["position", "seed", "choice"])
def test_the_tokens_follow_the_softmax(vary: str) -> None:
    logits = row_of([2.0, 1.0, 0.5, 0.0, -1.0, 1.5])
    free = Sampling(temperature=0.9, top_k=0, top_p=1.0, min_p=0.0)
    draws, counts = 12_000, np.zeros(logits.size)
    for number in range(draws):
        where = {"position": 5, "seed": 11, "choice": 2} | {vary: number}
        counts[Sampler(free, seed=where["seed"], choice=where["choice"]).draw(logits, where["position"])] += 1
    weights = np.exp(logits.astype(np.float64) / 0.9)
    expected = draws * weights / weights.sum()
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 20.5  # 5 degrees of freedom: passed by 99.9 % of true samples; the seeds are fixed


# --- rows of every kind -----------------------------------------------------------------------


@settings(deadline=None)
@given(samplings, rows(), seeds)
def test_logits_are_only_read_whatever_their_layout(sampling: Sampling, logits: Logits, seed: int) -> None:
    token = Sampler(sampling, seed=seed, choice=0, prompt=[0, 1]).draw(logits, 0, banned=[2])
    spread = np.zeros((logits.size, 2), dtype=np.float32)
    spread[:, 0] = logits
    wide = logits.astype(np.float64)
    for view in (spread[:, 0], logits.copy(), wide):
        view.flags.writeable = False
        before = view.tobytes()
        assert Sampler(sampling, seed=seed, choice=0, prompt=[0, 1]).draw(view, 0, banned=[2]) == token  # type: ignore[arg-type]
        assert view.tobytes() == before


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    assert Sampler(Sampling(temperature=0), seed=1, choice=0).draw(row_of([1, 3, 3, 2]), 0) == 1


def test_a_temperature_near_zero_is_greedy_without_overflow() -> None:
    assert drawn(Sampling(temperature=5e-324), row_of([1, 3, 2.999]), seed=4) == [1] * 30


def test_a_banned_token_never_comes_and_comes_back_when_allowed() -> None:
    sampler = Sampler(Sampling(), seed=1, choice=0)
    logits = row_of([0.0, 9.0, 1.0])
    assert {sampler.draw(logits, position, banned=[1]) for position in range(40)} == {0, 2}
    assert sampler.draw(logits, 0) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nan_is_impossible_and_infinity_certain(temperature: float) -> None:
    sampling = Sampling(temperature=temperature)
    assert set(drawn(sampling, row_of([math.nan, 1.0, -math.inf, math.nan]), seed=1)) == {1}
    assert set(drawn(sampling, row_of([math.nan, 1.0, math.inf, 5.0]), seed=1)) == {2}


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_a_model_that_gives_nothing_usable_has_failed(broken: float) -> None:
    with pytest.raises(ModelFailed, match="no usable number"):
        Sampler(Sampling(), seed=1, choice=0).draw(row_of([broken] * 1000), 0)


def test_a_bias_that_forbids_everything_is_the_callers_fault() -> None:
    nothing = tuple((token, -math.inf) for token in range(3))
    with pytest.raises(InvalidField, match="leaves no token"):
        Sampler(Sampling(logit_bias=nothing), seed=1, choice=0).draw(row_of([0, 1, 2]), 0)


def test_penalties_look_back_no_further_than_asked() -> None:
    sampling = Sampling(temperature=0, presence_penalty=2.0, repeat_last_n=2)
    sampler = Sampler(sampling, seed=1, choice=0, prompt=[0, 0, 1])
    logits = row_of([3.0, 2.5, 2.0])
    assert sampler.draw(logits, 0) == 2
    sampler.accept(2)
    assert sampler.draw(logits, 1) == 0


def test_huge_biases_and_penalties_stay_quiet() -> None:
    sampling = Sampling(temperature=0, logit_bias=((0, 1e300), (1, -1e300)), repeat_penalty=1e300, repeat_last_n=-1)
    assert Sampler(sampling, seed=1, choice=0, prompt=[1, 2]).draw(row_of([1, 2, -3]), 0) == 0


# --- constraints and bad words ------------------------------------------------------------------


def mask(size: int, *allowed: int) -> Mask:
    """Which tokens a constraint allows."""
    found: Mask = np.zeros(size, dtype=bool)
    found[list(allowed)] = True
    return found


@settings(deadline=None)
@given(samplings, rows(), seeds, st.data())
def test_only_what_is_allowed_comes_and_as_if_there_were_nothing_else(
    sampling: Sampling, logits: Logits, seed: int, data: st.DataObject
) -> None:
    tokens = data.draw(st.sets(st.integers(0, logits.size - 1), min_size=1, max_size=9))
    found = Sampler(sampling, seed=seed, choice=0, prompt=[0, 1]).draw(logits, 4, allowed=mask(logits.size, *tokens))
    assert found in tokens
    alone = np.where(mask(logits.size, *tokens), logits, np.float32(-np.inf))
    assert Sampler(sampling, seed=seed, choice=0, prompt=[0, 1]).draw(alone, 4) == found


def test_no_field_opens_a_way_around_a_constraint() -> None:
    odd = Sampling(repeat_penalty=-1.0, logit_bias=((0, math.inf),), frequency_penalty=-math.inf)
    logits = row_of([-math.inf, -math.inf, 1.0, 2.0])
    sampler = Sampler(odd, seed=1, choice=0, prompt=[0, 1])
    assert {sampler.draw(logits, position, allowed=mask(4, 2)) for position in range(20)} == {2}
    assert {sampler.draw(logits, position, banned=[0, 1, 3]) for position in range(20)} == {2}


def test_a_constraint_that_leaves_nothing_is_said_so() -> None:
    sampler = Sampler(Sampling(), seed=1, choice=0)
    for allowed in (mask(3), mask(3, 2)):
        with pytest.raises(InvalidField, match="the constraint leaves no token") as caught:
            sampler.draw(row_of([1.0, 2.0, math.nan]), 0, allowed=allowed)
        assert caught.value.param == "response_format"
    with pytest.raises(ModelFailed, match="no usable number"):
        sampler.draw(row_of([math.nan] * 3), 0, allowed=mask(3))


def test_fields_that_together_leave_nothing_are_named() -> None:
    sampler = Sampler(Sampling(logit_bias=((0, -math.inf),)), seed=1, choice=0, bad_words=((1,),))
    with pytest.raises(InvalidField, match="logit_bias and bad_words and the constraint together leave no token"):
        sampler.draw(row_of([1, 2, 3]), 0, allowed=mask(3, 0, 1))
    with pytest.raises(InvalidField, match="bad_words leaves no token") as caught:
        Sampler(Sampling(), seed=1, choice=0, bad_words=((0,), (1,))).draw(row_of([1, 2]), 0)
    assert caught.value.param == "bad_words"


def test_a_bad_word_never_comes_whole() -> None:
    free = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    sampler, history = Sampler(free, seed=1, choice=0, prompt=[0], bad_words=((0, 1), (2,))), [0]
    for position in range(200):
        history.append(sampler.draw(row_of([1.0, 1.0, 5.0, 1.0]), position))
        sampler.accept(history[-1])
    assert 2 not in history
    assert (0, 1) not in set(itertools.pairwise(history))
    assert {(0, 0), (1, 1), (0, 3)} <= set(itertools.pairwise(history))


# --- XTC, DRY, mirostat -----------------------------------------------------------------------------


def test_the_tokens_follow_the_softmax_of_what_xtc_leaves_as_often_as_it_acts() -> None:
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32))
    crossed = Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, xtc_probability=0.6, xtc_threshold=0.25)
    draws, counts = 8000, np.zeros(4)
    for seed in range(draws):
        counts[Sampler(crossed, seed=seed, choice=0).draw(logits, 3)] += 1
    left = np.array([0.0, 0.3, 0.2, 0.1]) / 0.6
    expected = draws * (0.6 * left + 0.4 * np.array([0.4, 0.3, 0.2, 0.1]))
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 3 degrees of freedom, 99.9 %; the seeds are fixed


def test_greedy_takes_the_best_of_what_the_filters_left() -> None:
    logits = np.log(np.array([0.4, 0.35, 0.25], dtype=np.float32))
    crossed = Sampling(temperature=0, xtc_probability=1.0, xtc_threshold=0.3)
    assert Sampler(crossed, seed=1, choice=0).draw(logits, 0) == 1
    assert Sampler(Sampling(temperature=0, mirostat=2), seed=1, choice=0).draw(logits, 0) == 0


CARRIED_ON = [
    Sampling(dry_multiplier=2.0, dry_base=1.5, dry_allowed_length=1),
    Sampling(repeat_penalty=1.3, frequency_penalty=0.3, repeat_last_n=7),
    Sampling(xtc_probability=0.5, xtc_threshold=0.05, typical_p=0.9, top_n_sigma=2.0),
]


@pytest.mark.parametrize("sampling", CARRIED_ON, ids=["dry", "penalties", "xtc"])
def test_an_answer_carried_on_elsewhere_has_the_same_tokens(sampling: Sampling) -> None:
    logits, prompt, whole = row_of(np.linspace(0, 3, 12).tolist()), [1, 2, 3], list[int]()
    sampler = Sampler(sampling, seed=9, choice=1, prompt=prompt, bad_words=((11, 11), (10, 9)))
    for position in range(60):
        whole.append(sampler.draw(logits, position))
        sampler.accept(whole[-1])
    resumed = Sampler(sampling, seed=9, choice=1, prompt=prompt + whole[:25], bad_words=((11, 11), (10, 9)))
    for position in range(25, 60):
        assert resumed.draw(logits, position) == whole[position]
        resumed.accept(whole[position])


def test_dry_asks_the_vocabulary_for_its_breakers_only_when_it_is_on() -> None:
    asked: list[int] = []

    def piece(token: int) -> bytes:
        asked.append(token)
        return b"abcd"[token : token + 1]

    vocabulary = Vocabulary(4, piece, lambda _: [])
    Sampler(Sampling(), seed=1, choice=0, vocabulary=vocabulary)
    assert not asked
    how = Sampling(temperature=0, dry_multiplier=9.0, dry_sequence_breakers=("d",))
    history, logits = [0, 1, 2, 0, 1], row_of([0.0, 0.0, 3.0, 0.0])
    assert Sampler(how, seed=1, choice=0, prompt=history, vocabulary=vocabulary).draw(logits, 0) == 0
    assert Sampler(how, seed=1, choice=0, prompt=[0, 1, 3, 0, 1], vocabulary=vocabulary).draw(logits, 0) == 2
    assert asked


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws_with_the_same_noise_and_learns_from_what_is_accepted(version: int) -> None:
    logits = row_of((-1.1 * np.log(np.arange(1, 400))).tolist())
    how = Sampling(mirostat=version, mirostat_tau=3.0, temperature=1.0)
    first, second = Sampler(how, seed=5, choice=0), Sampler(how, seed=5, choice=0)
    for position in range(40):
        token = first.draw(logits, position)
        assert first.draw(logits, position) == second.draw(logits, position) == token
        first.accept(token)
        second.accept(token)


def test_penalties_act_before_mirostat() -> None:
    how = Sampling(mirostat=2, mirostat_tau=0.0, presence_penalty=5.0)
    assert Sampler(how, seed=5, choice=0, prompt=[0]).draw(row_of([3, 1, 0]), 0) == 1


@pytest.mark.parametrize("name", ["temperature", "top_p", "dry_base", "xtc_threshold", "presence_penalty"])
def test_a_field_that_is_no_number_is_named(name: str) -> None:
    with pytest.raises(InvalidField, match=f"{name} is not a number") as caught:
        Sampler(Sampling(**{name: math.nan}), seed=1, choice=0)  # type: ignore[arg-type]
    assert caught.value.param == name
