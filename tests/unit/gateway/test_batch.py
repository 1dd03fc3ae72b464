"""The rules of a batch: where each status leads, what becomes of lines, when one is tried again; lines of a file."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import (
    Conflict,
    DeadlineExceeded,
    InternalFault,
    InvalidField,
    MeshnodeError,
    ModelNotFound,
    NobodyServes,
    Overloaded,
    WorkerDied,
)
from meshnode.events import Usage
from meshnode.gateway.batch import (
    LONGEST_WAIT_S,
    MOST_FAULTS,
    MOST_TRIES,
    Batch,
    BatchStatus,
    Fault,
    Refused,
    Splitter,
    answered,
    broken,
    cancelling,
    ended,
    expired,
    failed,
    moved,
    passing,
    patience,
    validated,
)
from tests.kit.batches import a_batch

S = BatchStatus


def batch(status: S = S.IN_PROGRESS, **fields: object) -> Batch:
    return msgspec.structs.replace(a_batch(), status=status, **fields)


def refused(*rows: bytes) -> Refused:
    found = Refused()
    for line, row in enumerate(rows, start=1):
        found.add(Fault(code="invalid_value", message="wrong", line=line), row)
    return found


@pytest.mark.parametrize("status", S)
def test_a_batch_is_over_where_nothing_follows(status: S) -> None:
    follows = []
    for other in S:
        try:
            follows.append(moved(batch(status), other, 7.9).moments)
        except InternalFault:
            continue
    assert status.over is (follows == [])
    assert status.over is (status in (S.FAILED, S.COMPLETED, S.EXPIRED, S.CANCELLED))
    assert all(list(moments.values()) == [7] for moments in follows)


@pytest.mark.parametrize("status", S)
def test_what_runs_can_be_cancelled_and_what_is_cancelled_stays_so(status: S) -> None:
    if status in (S.VALIDATING, S.IN_PROGRESS):
        ends = cancelling(batch(status), 5)
        assert (ends.status, ends.moments) == (S.CANCELLING, {"cancelling": 5})
        assert ended(ends, 6).status is S.CANCELLED
    elif status in (S.CANCELLING, S.CANCELLED):
        assert cancelling(batch(status), 5) == batch(status)
    else:
        with pytest.raises(Conflict, match=status.value):
            cancelling(batch(status), 5)


def test_a_file_with_some_right_lines_runs_and_the_others_count_as_failed() -> None:
    runs = validated(batch(S.VALIDATING), 3, refused(b"12", b"345"), 5)
    assert (runs.status, runs.total, runs.failed, runs.error_bytes, runs.left) == (S.IN_PROGRESS, 5, 2, 5, 3)
    assert runs.faults == ()


def test_a_file_without_a_right_line_fails_and_names_the_first_wrong_ones() -> None:
    fails = validated(batch(S.VALIDATING), 0, refused(*[b"x"] * (MOST_FAULTS + 5)), 5)
    assert fails.status is S.FAILED
    assert [fault.line for fault in fails.faults] == list(range(1, MOST_FAULTS + 1))
    assert [fault.code for fault in validated(batch(S.VALIDATING), 0, refused(), 5).faults] == ["empty_file"]


def test_answers_and_failures_are_counted_with_what_they_took() -> None:
    one = batch(total=4)
    one = answered(one, Usage(5, 2, 1), b"1234")
    one = answered(one, Usage(1, 1), b"5")
    one = failed(one, b"67", b"8")
    assert (one.completed, one.failed, one.left) == (2, 2, 0)
    assert (one.output_bytes, one.error_bytes) == (5, 3)
    assert one.usage == Usage(6, 3, 1)


def test_files_are_named_once_the_batch_is_over_and_only_where_there_is_something_in_them() -> None:
    one = failed(batch(total=1), b"row")
    assert not one.has_errors
    one = ended(moved(one, S.FINALIZING, 1), 2)
    assert (one.status, one.has_errors, one.has_output) == (S.COMPLETED, True, False)
    assert not broken(failed(batch(), b"row"), (), 1).has_errors


def test_what_was_not_answered_in_time_is_expired() -> None:
    late = expired(batch(), 9)
    assert (late.status, late.expiring) == (S.FINALIZING, True)
    assert ended(late, 10).status is S.EXPIRED
    assert expired(batch(S.VALIDATING), 9).status is S.FAILED


def test_lines_that_got_lost_are_said_to_be() -> None:
    one = ended(batch(S.FINALIZING, total=3, completed=1), 1)
    assert (one.completed, one.failed) == (1, 2)
    assert one.faults[0].code == "lost"


# --- trying again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Overloaded("full"), NobodyServes("none")])
def test_what_says_nothing_of_a_line_is_waited_out(error: MeshnodeError) -> None:
    assert passing(error, settling=False)
    assert patience(error, 1000) is not None


@pytest.mark.parametrize("error", [WorkerDied("died"), DeadlineExceeded("late"), InternalFault("broken")])
def test_what_may_be_the_lines_own_doing_is_tried_a_few_times(error: MeshnodeError) -> None:
    waits = [patience(error, tries) for tries in range(1, MOST_TRIES + 1)]
    assert waits[-1] is None
    assert None not in waits[:-1]


def test_a_wrong_request_is_not_tried_again_but_a_name_that_may_still_arrive() -> None:
    assert patience(InvalidField("wrong"), 0) is None
    assert patience(ModelNotFound("none"), 0) is None
    assert patience(ModelNotFound("none"), 0, settling=True) is not None


@given(st.integers(0, 10_000), st.none() | st.floats(0, 1e9))
def test_waits_are_bounded(tries: int, hint: float | None) -> None:
    wait = patience(Overloaded("full", retry_after_s=hint), tries)
    assert wait is not None
    assert 1 <= wait <= LONGEST_WAIT_S


# --- lines of a file ------------------------------------------------------------------------------


def split(*pieces: bytes, most: int = 100) -> list[tuple[int, bytes | None]]:
    splitter = Splitter(most)
    return [line for piece in pieces for line in splitter.feed(piece)] + list(splitter.end())


def test_lines_keep_their_numbers_and_blank_ones_are_left_out() -> None:
    assert split(b"\xef\xbb\xbfa\n\n \r\nb\r\n") == [(1, b"a"), (4, b"b\r")]
    assert split(b"a") == [(1, b"a")]
    assert split(b"") == []


def test_a_line_that_is_too_long_is_none_and_not_held() -> None:
    assert split(b"abc", b"def\nok", most=5) == [(1, None), (2, b"ok")]
    splitter = Splitter(5)
    for _ in range(1000):
        assert list(splitter.feed(b"x" * 1000)) == []
    assert sum(map(len, splitter._held)) <= 5


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_how_a_file_is_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    assert split(*pieces, most=10) == split(data, most=10)
