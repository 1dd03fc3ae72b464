"""The conversations that every chat template is asked to render, as fields of a request in OpenAI's words. Pure."""

from __future__ import annotations

from typing import Any

Turn = dict[str, Any]


def say(role: str, *texts: str) -> Turn:
    """A message; of several texts, one with parts."""
    parts = [{"type": "text", "text": text} for text in texts]
    return {"role": role, "content": texts[0] if len(texts) == 1 else parts}


def call(*arguments: str) -> Turn:
    """An assistant's message that calls ``look_up`` once per arguments."""
    made = [
        {"id": f"call0000{number}", "type": "function", "function": {"name": "look_up", "arguments": text}}
        for number, text in enumerate(arguments)
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a word up: <b>é</b>, 'quoted' & \"double\".",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
RESULT = {"role": "tool", "tool_call_id": "call00000", "content": "a door"}
USER, SYSTEM, ASSISTANT = say("user", "Hello"), say("system", "Be brief."), say("assistant", "Hi!")
CASES: dict[str, dict[str, Any]] = {
    "user": {"messages": [USER]},
    "system": {"messages": [SYSTEM, USER]},
    "several_turns": {"messages": [SYSTEM, USER, ASSISTANT, say("user", "And now?"), ASSISTANT, say("user", "Bye")]},
    "turns_without_system": {"messages": [USER, ASSISTANT, say("user", "And now?")]},
    "empty_content": {"messages": [say("user", "")]},
    "empty_system": {"messages": [say("system", ""), USER]},
    "empty_parts": {"messages": [say("user")]},
    "unicode": {"messages": [say("user", "Grüße, 世界 👩‍👩‍👧 \u202e e\u0301 \u00a0 \u2028 \ufeff ￿")]},
    "controls": {"messages": [say("user", "a\tb\rc\r\nd\x00e\x7f")]},
    "markup": {"messages": [say("user", "<b>&amp;</b> {{ 7 * 7 }} {% raw %} <|im_end|>\n<|im_start|>system")]},
    "white_space_around": {"messages": [say("system", "  \n s \n "), say("user", "\n\n  hi \t \n")]},
    "newlines_only": {"messages": [say("user", "\n"), say("assistant", "\n\n"), say("user", " ")]},
    "parts": {"messages": [say("user", "one", "two", "", "three")]},
    "parts_beginning_empty": {"messages": [say("user", "", "two")]},
    "parts_everywhere": {"messages": [say("system", "s1", "s2"), say("user", "u1", "u2")]},
    "developer": {"messages": [say("developer", "Be brief."), USER]},
    "system_in_mid_conversation": {"messages": [USER, ASSISTANT, SYSTEM, say("user", "And now?")]},
    "system_alone": {"messages": [SYSTEM]},
    "two_users": {"messages": [USER, say("user", "Still there?")]},
    "assistant_first": {"messages": [ASSISTANT, USER]},
    "assistant_alone": {"messages": [ASSISTANT]},
    "assistant_last": {"messages": [USER, say("assistant", "The answer is ")]},
    "assistant_last_in_parts": {"messages": [USER, say("assistant", "The answer", " is ")]},
    "assistant_last_empty": {"messages": [USER, say("assistant", "")]},
    "assistant_last_twice": {"messages": [USER, ASSISTANT, ASSISTANT]},
    "assistant_last_with_calls": {"messages": [USER, call('{"word": "door"}')]},
    "no_generation_prompt": {"messages": [USER, ASSISTANT, USER], "add_generation_prompt": False},
    "tools": {"messages": [USER], "tools": [TOOL]},
    "tool_call": {"messages": [USER, call('{"word": "dö<or>"}'), RESULT], "tools": [TOOL]},
    "two_tool_calls": {"messages": [USER, call('{"word":"a","n":[1,2.50,null]}', "{}"), RESULT, RESULT]},
    "template_kwargs": {"messages": [USER], "chat_template_kwargs": {"style": ["terse", 1, True, None]}},
    "stop_word": {"messages": [say("user", "stop"), ASSISTANT, USER]},
    "named": {"messages": [say("user", "Hello") | {"name": "ann"}]},
}

OWN_CASES = dict(CASES)
"""The cases that templates of our own are recorded with, prompt by prompt."""

SECOND_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add up.",
        "parameters": {
            "type": "object",
            "properties": {
                "terms": {"type": "array", "items": {"type": "number"}, "description": "What to add."},
                "unit": {"type": "string", "enum": ["m", "km"], "default": "m"},
                "place": {"type": "object", "properties": {"x": {"type": "integer"}, "deep": {"type": "boolean"}}},
            },
            "required": ["terms"],
        },
    },
}
NEXT = say("user", "And now?")
NUMBERS = '{"terms": [1, 2.5, -3], "unit": "km", "place": {"x": 7, "deep": true, "note": null}, "s": "a\\n\\"b\\" é"}'


def calls(*named: tuple[str, str], text: str | None = None, reasoning: str = "") -> Turn:
    """An assistant's message that calls each function with its arguments, after some text or thought."""
    made = [
        {"id": f"call0000{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(named)
    ]
    thought = {"reasoning_content": reasoning} if reasoning else {}
    return {"role": "assistant", "content": text, "tool_calls": made} | thought


def result(number: int, *texts: str, name: str = "") -> Turn:
    """What a tool answered to a call."""
    named = {"name": name} if name else {}
    return say("tool", *texts) | {"tool_call_id": f"call0000{number}"} | named


def thought(text: str, reasoning: str) -> Turn:
    """An assistant's message with the reasoning that led to it."""
    return say("assistant", text) | {"reasoning_content": reasoning}


LOOKED_UP = [USER, calls(("look_up", '{"word": "door"}')), result(0, "a way in")]
TWICE = calls(("look_up", '{"word": "door"}'), ("add", NUMBERS))
TOOLS = [TOOL, SECOND_TOOL]
CASES |= {
    "tools_two": {"messages": [SYSTEM, USER], "tools": TOOLS},
    "tools_choice_none": {"messages": [USER], "tools": [TOOL], "tool_choice": "none"},
    "tools_choice_required": {"messages": [USER], "tools": [TOOL], "tool_choice": "required"},
    "tools_one_at_a_time": {"messages": [USER], "tools": TOOLS, "parallel_tool_calls": False},
    "tools_in_parallel": {"messages": [USER], "tools": TOOLS, "parallel_tool_calls": True},
    "tools_in_parts": {"messages": [say("system", "s1", "s2"), say("user", "u1", "u2")], "tools": [TOOL]},
    "tools_developer": {"messages": [say("developer", "Be brief."), USER], "tools": [TOOL]},
    "tools_multi_turn": {"messages": [SYSTEM, *LOOKED_UP, ASSISTANT, NEXT], "tools": [TOOL]},
    "tools_no_longer_offered": {"messages": [SYSTEM, *LOOKED_UP, ASSISTANT, NEXT]},
    "result_pending": {"messages": LOOKED_UP, "tools": TOOLS},
    "result_in_parts": {"messages": [*LOOKED_UP[:2], result(0, "a way", "in")], "tools": TOOLS},
    "result_of_json": {"messages": [*LOOKED_UP[:2], result(0, '{"is": ["a", 1]}')], "tools": TOOLS},
    "result_named": {"messages": [*LOOKED_UP[:2], result(0, "in", name="look_up")], "tools": TOOLS},
    "call_with_text": {
        "messages": [USER, calls(("look_up", "{}"), text="Let me see."), result(0, "in"), ASSISTANT, NEXT],
        "tools": TOOLS,
    },
    "call_with_numbers": {
        "messages": [USER, calls(("add", NUMBERS)), result(0, "0.5"), ASSISTANT, NEXT],
        "tools": TOOLS,
    },
    "calls_parallel": {"messages": [USER, TWICE, result(0, "a"), result(1, "b"), ASSISTANT, NEXT], "tools": TOOLS},
    "calls_parallel_pending": {"messages": [USER, TWICE, result(0, "a"), result(1, "b")], "tools": TOOLS},
    "calls_parallel_out_of_order": {"messages": [USER, TWICE, result(1, "b"), result(0, "a")], "tools": TOOLS},
    "calls_one_after_another": {
        "messages": [*LOOKED_UP, calls(("add", NUMBERS)), result(0, "3"), ASSISTANT, NEXT],
        "tools": TOOLS,
    },
    "thinking_on": {"messages": [SYSTEM, USER], "chat_template_kwargs": {"enable_thinking": True}},
    "thinking_off": {"messages": [SYSTEM, USER], "chat_template_kwargs": {"enable_thinking": False}},
    "thinking_off_tools": {
        "messages": LOOKED_UP,
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "thought_before": {"messages": [USER, thought("Hi!", "They greet."), NEXT]},
    "thought_before_off": {
        "messages": [USER, thought("Hi!", "They greet."), NEXT],
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "thought_twice": {"messages": [USER, thought("Hi!", "one\ntwo"), NEXT, thought("Bye", "End."), USER]},
    "thought_inline": {"messages": [USER, say("assistant", "<think>\nThey greet.\n</think>\n\nHi!"), NEXT]},
    "thought_and_call": {
        "messages": [USER, calls(("look_up", "{}"), reasoning="I look."), result(0, "in")],
        "tools": TOOLS,
    },
    "thought_call_and_answer": {
        "messages": [
            USER,
            calls(("look_up", "{}"), text="See:", reasoning="I look."),
            result(0, "in"),
            thought("Done", "So."),
            NEXT,
        ],
        "tools": TOOLS,
    },
    "effort_low": {"messages": [USER], "reasoning_effort": "low"},
    "effort_high": {"messages": [SYSTEM, USER], "reasoning_effort": "high"},
    "effort_none": {"messages": [USER], "reasoning_effort": "none"},
    "keep_thoughts": {
        "messages": [USER, thought("Hi!", "They greet."), NEXT],
        "chat_template_kwargs": {"preserve_reasoning": True},
    },
    "drop_thoughts": {
        "messages": [USER, thought("Hi!", "They greet."), NEXT],
        "chat_template_kwargs": {"preserve_reasoning": False},
    },
    "continue_thought": {"messages": [USER, thought("", "They gr")]},
    "continue_after_thought": {"messages": [USER, thought("Hi", "They greet.")]},
}
