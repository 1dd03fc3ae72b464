"""Calls whose name stands before their JSON."""

from __future__ import annotations

from meshnode.engine.replies.families import (
    DEEPSEEK_R1,
    DEEPSEEK_V3,
    FUNCTIONARY,
    FUNCTIONARY_32,
    KIMI_K2,
    MISTRAL_ARGS,
)
from tests.kit.replies import plain, read

PING = [["call", "call_0", "ping"], ["arguments", "{}"]]


def test_white_space_between_name_and_arguments() -> None:
    assert plain(read(MISTRAL_ARGS, "[TOOL_CALLS] ping [ARGS] {}")) == PING


def test_no_arguments_before_the_end_are_none() -> None:
    assert plain(read(FUNCTIONARY, "<function=ping></function>")) == PING
    end = "<｜tool▁call▁end｜>"
    assert plain(read(DEEPSEEK_V3, f"<｜tool▁call▁begin｜>ping<｜tool▁sep｜>{end}")) == PING


def test_each_deepseek_reads_what_the_other_writes() -> None:
    for family in (DEEPSEEK_R1, DEEPSEEK_V3):
        for written in ("function<｜tool▁sep｜>ping\n```json\n{}\n```", "ping<｜tool▁sep｜>{}"):
            assert plain(read(family, f"<｜tool▁call▁begin｜>{written}<｜tool▁call▁end｜>")) == PING


def test_a_name_without_arguments_is_text() -> None:
    for raw in ("[TOOL_CALLS]ping", "[TOOL_CALLS]ping[ARGS]now", "[TOOL_CALLS]ping[ARGS]"):
        assert plain(read(MISTRAL_ARGS, raw)) == [["said", raw]]


def test_a_name_does_not_go_on_for_ever() -> None:
    raw = "[TOOL_CALLS]" + "x" * 1000 + "[ARGS]{}"
    assert plain(read(MISTRAL_ARGS, raw)) == [["said", raw]]


def test_kimis_name_without_a_number() -> None:
    raw = "<|tool_call_begin|>ping<|tool_call_argument_begin|>{}<|tool_call_end|>"
    assert plain(read(KIMI_K2, raw)) == PING


def test_functionary_speaks_again_after_a_call() -> None:
    pieces = plain(read(FUNCTIONARY_32, "ping\n{}>>>all\nDone.", tail=">>>"))
    assert pieces == [*PING, ["said", "Done."]]
