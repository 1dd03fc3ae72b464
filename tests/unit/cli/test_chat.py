"""Talking to a model: through a pipe, and line by line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator

import pytest

from meshnode.cli.chat import Conversation, converse
from meshnode.client import Client, open_client
from meshnode.errors import ModelNotFound
from tests.kit.fakenode import STATUS, FakeNode
from tests.unit.cli.conftest import Shell

CHAT = "POST /v1/chat/completions"


def pieces(*texts: str) -> list[str]:
    return [*(f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}" for text in texts), "data: [DONE]"]


@pytest.fixture
def client(node: FakeNode) -> Iterator[Client]:
    with open_client(node.home) as client:
        yield client


def typed(*lines: str | type[BaseException]) -> Callable[[str], str]:
    """A person who types these lines, then Ctrl-D; an exception class stands for what its key raises."""
    waiting = iter(lines)

    def read(_prompt: str) -> str:
        line = next(waiting, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def roles(node: FakeNode, number: int = -1) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in node.asked[number].body["messages"]]


# --- once -----------------------------------------------------------------------------------------


def test_a_prompt_is_answered_on_stdout(shell: Shell, node: FakeNode) -> None:
    node.lines(CHAT, *pieces("Good ", "day."))
    assert shell("chat", "smollm2", "say", "hello") == (0, "Good day.\n", "")
    assert node.asked[0].body["model"] == "smollm2"
    assert roles(node) == [("user", "say hello")]


def test_text_on_stdin_is_the_question(shell: Shell, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("  what is this?\n"))
    node.lines(CHAT, *pieces("A test."))
    assert shell("chat").out == "A test.\n"
    assert roles(node) == [("user", "what is this?")]
    assert "model" not in node.asked[0].body


def test_a_prompt_and_stdin_go_together_behind_the_instructions(
    shell: Shell, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x = 1\n"))
    node.lines(CHAT, *pieces("Fine."))
    shell("chat", "a", "review this", "--system", "Be brief.")
    assert roles(node) == [("system", "Be brief."), ("user", "review this\n\nx = 1")]


def test_as_json_the_answer_is_one_object(shell: Shell, node: FakeNode) -> None:
    node.lines(CHAT, *pieces("Good ", "day."))
    assert json.loads(shell("chat", "a", "hi", "--json").out) == {"model": "a", "content": "Good day."}


def test_nothing_to_ask_is_a_usage_error(shell: Shell, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert shell("chat", "a").code == 2


def test_an_unknown_model_is_told_with_its_neighbours(shell: Shell, node: FakeNode) -> None:
    node.error(CHAT, 404, "model_not_found", "no model is called x. Did you mean smollm2?")
    assert shell("chat", "x", "hi") == (22, "", "meshnode: no model is called x. Did you mean smollm2?\n")


def test_a_model_cannot_steer_the_terminal(shell: Shell, node: FakeNode) -> None:
    node.lines(CHAT, *pieces("\x1b[2J\x1b]0;owned\x07", "plain"))
    assert shell("chat", "a", "hi").out == "[2J]0;ownedplain\n"


# --- line by line ---------------------------------------------------------------------------------


def test_a_conversation_remembers_what_was_said(
    node: FakeNode, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    node.lines(CHAT, *pieces("Good day."))
    converse(Conversation(client, "a", None), False, read=typed("hello", "", "and now?", "/bye", "never sent"))
    assert capsys.readouterr().out == "Good day.\nGood day.\n"
    assert roles(node) == [("user", "hello"), ("assistant", "Good day."), ("user", "and now?")]
    assert len(node.asked) == 2


def test_clear_forgets_all_but_the_instructions(node: FakeNode, client: Client) -> None:
    node.lines(CHAT, *pieces("Yes."))
    converse(Conversation(client, "a", "Be brief."), False, read=typed("one", "/clear", "two"))
    assert roles(node) == [("system", "Be brief."), ("user", "two")]


def test_several_lines_are_one_message(node: FakeNode, client: Client) -> None:
    node.lines(CHAT, *pieces("Yes."))
    converse(Conversation(client, "a", None), False, read=typed('"""first', "second", 'third"""'))
    assert roles(node) == [("user", "first\nsecond\nthird")]


def test_help_is_not_sent(node: FakeNode, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    converse(Conversation(client, "a", None), False, read=typed("/?"))
    assert "/bye" in capsys.readouterr().err
    assert node.asked == []


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    node: FakeNode, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node.lines(CHAT, *pieces("Once upon", " a time"))
    monkeypatch.setattr("meshnode.cli.chat.printable", _interrupt_after("Once upon"))
    talk = Conversation(client, "a", None)
    converse(talk, False, read=typed("tell me"))
    monkeypatch.undo()
    node.lines(CHAT, *pieces("More."))
    converse(talk, False, read=typed("go on"))
    assert "(stopped)" in capsys.readouterr().err
    assert roles(node) == [("user", "tell me"), ("assistant", "Once upon"), ("user", "go on")]


def _interrupt_after(text: str) -> Callable[[str], str]:
    def printable(piece: str) -> str:
        if piece == text:
            raise KeyboardInterrupt
        return piece

    return printable


def test_ctrl_c_at_the_prompt_leaves(node: FakeNode, client: Client) -> None:
    with pytest.raises(KeyboardInterrupt):
        converse(Conversation(client, "a", None), False, read=typed(KeyboardInterrupt))
    assert node.asked == []


def test_a_node_in_trouble_is_told_and_the_conversation_goes_on(
    node: FakeNode, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    talk = Conversation(client, "a", None)
    node.error(CHAT, 503, "overloaded", "the queue is full.")
    converse(talk, False, read=typed("hello"))
    assert "meshnode: the queue is full." in capsys.readouterr().err
    node.lines(CHAT, *pieces("Yes."))
    converse(talk, False, read=typed("again"))
    assert roles(node) == [("user", "again")]


def test_an_unknown_model_ends_the_conversation(node: FakeNode, client: Client) -> None:
    node.error(CHAT, 404, "model_not_found", "no model is called x.")
    with pytest.raises(ModelNotFound):
        converse(Conversation(client, "x", None), False, read=typed("hello"))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_asks_for_the_node_first(
    shell: Shell, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.json("GET /api/status", STATUS)
    monkeypatch.setattr("sys.stdin", _Terminal())
    ran = shell("chat", "a")
    assert ran.code == 0
    assert node.asked[0].path == "/api/status"
    assert "Talking to a" in ran.err
