"""Settlement under SIGKILL, in small: ``scripts/kill_settlement``; and its judge, who must find what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.diary import Accused, Asked, Confirmed, Delivered, Ended, Fact, Marked, Paying, Row, Signed, Stored
from harness.judge import (
    ACCUSED,
    AT_RISK,
    FELL,
    FORKED,
    LOST,
    SILENT,
    TWICE,
    UNBALANCED,
    UNSIGNED,
    Judge,
)
from harness.parties import CONSUMER, DAY, NETWORK, PROVIDER
from meshnode.wire.canonical import encode
from meshnode.wire.receipt import NO_PREVIOUS, Receipt

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_settlement"


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 8])
def test_kills_at_random_moments_lose_nothing_acknowledged(streams: int) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "8", "--streams", str(streams), "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "never signed" in done.stdout


# --- the judge --------------------------------------------------------------------------------------


def body(seq: int, output: int, *, chan: int = 7) -> bytes:
    """A receipt for one request with a prompt of 100 tokens."""
    return encode(
        Receipt(
            network=NETWORK,
            consumer=CONSUMER.ledger_public,
            provider=PROVIDER.ledger_public,
            chan=chan,
            seq=seq,
            cum_uc=cost(output),
            cum_in=100,
            cum_out=output,
            n_req=1,
            day=DAY,
            prev=NO_PREVIOUS,
        )
    )


def cost(output: int) -> int:
    """At the prices agreed."""
    return max(2000, 100 * 10 + output * 80)


def stored(seq: int, output: int) -> Stored:
    """An acknowledgement."""
    return Stored(0.0, 7, seq, cost(output), 100, output, 1)


def row(seq: int, output: int, *, confirmed: int = 0) -> Row:
    """A channel in a database."""
    return Row(7, seq, cost(output), 100, output, 1, confirmed)


def delivered(output: int) -> Delivered:
    """What the provider computed of the one request."""
    return Delivered(0.0, Marked("r", 100, 0, output))


def pays(seq: int, output: int) -> list[Fact]:
    """What a consumer notes of a tick."""
    return [Paying(0.0, (Marked("r", 100, 0, output),)), Signed(0.0, body(seq, output)), stored(seq, output)]


def honest() -> Judge:
    """After an honest request of two ticks."""
    judge = Judge()
    judge.take("consumer", [Asked(0.0, "r"), *pays(1, 32), *pays(2, 60), Ended(1.0, "r", "finished")])
    judge.take("provider", [delivered(40), stored(1, 32), delivered(60), stored(2, 60), Confirmed(1.0, 7, 2, 5800)])
    for role in ("consumer", "provider"):
        judge.look(role, [row(2, 60, confirmed=5800)])
    return judge


def test_the_judge_finds_nothing_wrong_with_an_honest_request() -> None:
    judge = honest()
    (stake,) = judge.close()
    assert (stake.prompt, stake.output, stake.cut) == (0, 0, False)
    assert (judge.most_at_risk.output, judge.most_at_risk.prompt) == (40, 100)
    assert not judge.counts, judge.examples


BREACHES: list[tuple[str, Callable[[Judge], object]]] = [
    (LOST, lambda judge: judge.look("provider", [row(1, 32)])),
    (LOST, lambda judge: judge.look("consumer", [])),
    (LOST, lambda judge: judge.look("provider", [row(2, 60)])),
    (FELL, lambda judge: judge.take("provider", [stored(1, 32)])),
    (FELL, lambda judge: judge.look("consumer", [row(2, 59, confirmed=5800)])),
    (UNSIGNED, lambda judge: judge.look("provider", [row(3, 61, confirmed=5800)])),
    (FORKED, lambda judge: judge.take("consumer", [Signed(0.0, body(2, 61))])),
    (FORKED, lambda judge: judge.take("consumer", [Signed(0.0, body(3, 59))])),
    (AT_RISK, lambda judge: judge.take("provider", [delivered(60 + 65)])),
    (SILENT, lambda judge: judge.take("consumer", [Ended(0.0, "r", "silent")])),
    (SILENT, lambda judge: judge.take("consumer", [Ended(0.0, "r", "foreign:KeyError")])),
    (ACCUSED, lambda judge: judge.take("provider", [Accused(0.0, "a tick pays for nothing.")])),
]


@pytest.mark.parametrize(("check", "happens"), BREACHES)
def test_the_judge_finds(check: str, happens: Callable[[Judge], object]) -> None:
    judge = honest()
    happens(judge)
    assert judge.counts[check], judge.examples


def test_the_judge_finds_what_was_paid_and_not_delivered() -> None:
    judge = honest()
    judge.take("consumer", pays(3, 90))
    for role in ("consumer", "provider"):
        judge.look(role, [row(3, 90, confirmed=5800)])
    judge.close()
    assert judge.counts[TWICE]


def test_the_judge_finds_money_that_no_request_explains() -> None:
    judge = honest()
    judge.take("consumer", [Signed(0.0, body(3, 90))])
    for role in ("consumer", "provider"):
        judge.look(role, [row(3, 90, confirmed=5800)])
    judge.close()
    assert judge.counts[TWICE]


def test_the_judge_finds_books_that_differ() -> None:
    judge = honest()
    judge.look("provider", [msgspec.structs.replace(row(2, 60), confirmed_uc=5801)])
    judge.close()
    assert judge.counts[UNBALANCED] == 1


def test_the_judge_finds_too_much_unpaid_in_the_end() -> None:
    judge = honest()
    judge.take("consumer", pays(3, 90))
    judge.take("provider", [delivered(90), stored(3, 90), delivered(125)])
    assert not judge.counts[AT_RISK]
    judge.close()  # the databases still hold 60 of them
    assert judge.counts[AT_RISK] == 1
