"""System messages in mid-conversation reach the model, whatever its template takes."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.domain import ImagePart, Message, Role, TextPart, ToolCall
from meshnode.engine.late_system import said_by_users
from meshnode.engine.templates import ChatTemplate
from meshnode.engine.turns import Takes
from meshnode.errors import TemplateRefused
from recording.requests import request_of

CALL = Message(role=Role.ASSISTANT, tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),))


def say(role: str, *texts: str) -> Message:
    """A message of text parts."""
    return Message(role=Role(role), parts=tuple(TextPart(text) for text in texts))


LATE = Takes(late_system=False)
RESULT = Message(role=Role.TOOL, parts=(TextPart("42"),), tool_call_id="c1")


def told(*messages: Message, takes: Takes = LATE) -> list[tuple[str, list[str]]]:
    """Role and texts of each message."""
    return [
        (message.role.value, [part.text for part in message.parts if isinstance(part, TextPart)])
        for message in said_by_users(messages, takes)
    ]


def test_system_messages_stay_where_the_template_shows_them() -> None:
    spoken = [say("system", "s"), say("system", "t"), say("user", "u"), say("developer", "d")]
    assert [role for role, _ in told(*spoken, takes=Takes())] == ["system", "system", "user", "developer"]


def test_those_at_the_head_are_one() -> None:
    spoken = [say("system", "s", "more"), say("developer", "d", "e"), say("user", "u")]
    assert told(*spoken) == [("system", ["s", "more\n\nd\n\ne"]), ("user", ["u"])]


def test_one_after_a_users_turn_ends_it() -> None:
    spoken = [say("user", "u", "v"), say("system", "s"), say("system", "t"), say("assistant", "a")]
    assert told(*spoken) == [("user", ["u", "v\n\ns\n\nt"]), ("assistant", ["a"])]
    assert told(say("user"), say("system", "s")) == [("user", ["s"])]


def test_one_after_an_assistants_turn_begins_the_users_next() -> None:
    spoken = [say("user", "u"), say("assistant", "a"), say("system", "s"), say("system", "t"), say("user", "v", "w")]
    assert told(*spoken)[2:] == [("user", ["s\n\nt\n\nv", "w"])]


def test_one_with_no_user_beside_it_is_a_turn_of_its_own() -> None:
    last = [say("user", "u"), say("assistant", "a"), say("system", "s")]
    assert told(*last)[2:] == [("user", ["s"])]
    between = [say("user", "u"), say("assistant", "a"), say("system", "s"), say("assistant", "b")]
    assert told(*between)[2:] == [("user", ["s"]), ("assistant", ["b"])]


def test_what_is_no_text_is_left_as_it_is() -> None:
    picture = Message(role=Role.USER, parts=(ImagePart("data:x"),))
    (ended,) = said_by_users([picture, say("system", "s")], LATE)
    assert ended.parts == (ImagePart("data:x"), TextPart("s"))
    begun = said_by_users([say("user", "u"), say("assistant", "a"), say("system", "s"), picture], LATE)[-1]
    assert begun.parts == (TextPart("s"), ImagePart("data:x"))


def test_one_never_parts_calls_from_their_results() -> None:
    spoken = [say("user", "u"), CALL, say("system", "s"), RESULT, say("assistant", "a")]
    assert [role for role, _ in told(*spoken)] == ["user", "assistant", "tool", "user", "assistant"]


@given(st.lists(st.sampled_from(["system", "developer", "user", "assistant", "tool"]), min_size=1, max_size=8))
def test_nothing_is_lost_and_only_the_head_is_the_systems(roles: list[str]) -> None:
    spoken = [
        Message(role=Role(role), parts=(TextPart(f"<{number}>"),), tool_call_id="c" if role == "tool" else None)
        for number, role in enumerate(roles)
    ]
    found = told(*spoken)
    whole = "".join(str(content) for _, content in found)
    assert all(whole.count(f"<{number}>") == 1 for number in range(len(roles)))
    assert not {"system", "developer"} & {role for role, _ in found[1:]}
    others = [role for role, _ in found if role in ("assistant", "tool")]
    assert others == [role for role in roles if role in ("assistant", "tool")]


@given(st.lists(st.integers(0, 2), min_size=2, max_size=8))
def test_turns_that_alternate_still_do(systems: list[int]) -> None:
    spoken = [say("system", "s")] * systems[0]
    for number, count in enumerate(systems[1:]):
        spoken += [say("assistant" if number % 2 else "user", "x"), *[say("system", "s")] * count]
    roles = [role for role, _ in told(*spoken) if role != "system"]
    assert roles[0] == "user"
    assert all(one != other for one, other in pairwise(roles))


# --- through templates -----------------------------------------------------------------------------

LLAMA_2 = (
    "{% if messages[0].role == 'system' %}{% set said = '<<SYS>>' + messages[0].content + '<</SYS>>' %}"
    "{% set rest = messages[1:] %}{% else %}{% set said = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ (said if loop.first else '') + m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
"""In the manner of Llama 2's."""
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)
"""In the manner of Gemma's."""
AGENTS = request_of({
    "messages": [
        {"role": "system", "content": "S"},
        {"role": "developer", "content": "D"},
        {"role": "user", "content": "u"},
        {"role": "system", "content": "r1"},
        {"role": "assistant", "content": "a"},
        {"role": "system", "content": "r2"},
        {"role": "user", "content": "v"},
    ]
})  # fmt: skip
"""System messages as coding agents send them."""


def template(source: str) -> ChatTemplate:
    """A template as the engine makes it."""
    return ChatTemplate(source, bos="", eos="", now=lambda: datetime(2025, 3, 4))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (LLAMA_2, "[INST] <<SYS>>S\n\nD<</SYS>>u\n\nr1 [/INST] a</s>[INST] r2\n\nv [/INST]"),
        (GEMMA, "<user>S\n\nD\nu\n\nr1<assistant>a<user>r2\n\nv"),
        ("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
         "<system>S<system>D<user>u<system>r1<assistant>a<system>r2<user>v"),
    ],
)  # fmt: skip
def test_system_messages_in_mid_conversation_reach_every_template(source: str, expected: str) -> None:
    assert template(source).render(AGENTS) == expected


def test_turns_that_do_not_alternate_are_still_refused_in_the_templates_words() -> None:
    two = request_of({"messages": [{"role": "user", "content": "u"}, {"role": "user", "content": "v"}]})
    for source in (LLAMA_2, GEMMA):
        with pytest.raises(TemplateRefused, match=r"must alternate"):
            template(source).render(two)
