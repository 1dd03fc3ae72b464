"""Finds out what a chat template takes and shows, by giving it small marked conversations. Pure.

The questions are those of llama.cpp's ``common/jinja/caps.cpp``, which watches what a template reads. Here only what
comes out counts, so that no door into the template engine is needed. Where a family's template wants a conversation in
a form of its own (``common/chat.cpp``), it is known by a text in its source.
"""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

from meshnode.engine.turns import Takes, Turn

MARK = "meshnode-mark"
_VALUE, _SECOND, _RESULT = "meshnode-value", "meshnode-second", "meshnode-result"
_THOUGHT, _SAID = "meshnode-thought", "meshnode-said"
_OPENER = re.compile(r"(?:<\|open\|>think<\|sep\|>|<[^<>]*think[^<>]*>|<\|START_THINKING\|>|\[THINK\])\s*$", re.I)
_OPEN = ("<think>", "[THINK]", "<|START_THINKING|>")
_TOOL = {
    "type": "function",
    "function": {
        "name": "meshnode_tool",
        "description": "Does it.",
        "parameters": {
            "type": "object",
            "properties": {MARK: {"type": "string", "description": "A word."}},
            "required": [MARK],
        },
    },
}


class Shown(Protocol):
    """Renders with these variables; None where the template refuses or fails."""

    def __call__(self, **given: Any) -> str | None: ...


def probe(source: str, shown: Shown) -> Takes:
    """What the template takes. ``shown`` runs it, so within whatever bounds the caller has set."""
    text, parts = _content(shown)

    def say(role: str, said: str) -> Turn:
        return {"role": role, "content": said if text else [{"type": "text", "text": said}]}

    with_system = shown(messages=[say("system", MARK), say("user", "q")], add_generation_prompt=True)
    objects = _called(shown, say, {MARK: _VALUE})
    as_text = _called(shown, say, json.dumps({MARK: _VALUE}))
    calling = (objects if _reads_objects(objects) else as_text) or ""
    blocks = all(mark in source for mark in ("[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]")) and "'thinking'" in source
    lfm2 = "<|tool_list_start|>" in source or "List of tools: [" in source
    field = "<|channel|>" in source or ("thinking" in source and lfm2)
    return Takes(
        text=text,
        parts=parts,
        system=MARK in (with_system or ""),
        developer="<|channel|>" in source,
        argument_objects=_reads_objects(objects),
        tools="meshnode_tool" in (_offered(shown, say) or ""),
        tool_calls=_VALUE in calling,
        parallel_calls=_second_mark(shown, say, _reads_objects(objects)),
        results=_RESULT in (calling if _VALUE in calling else shown(messages=_returned(say), tools=[_TOOL]) or ""),
        thinking=_thinks(shown, say),
        lead=_lead(shown, say),
        thought_marks=_marks(shown, say, field=field),
        thinking_field=field,
        thinking_blocks=blocks and "[CALL_ID]" not in source,
        late_system=_late_system(shown, say),
        trimmed="You have access to the following functions in JSONSchema format" in source,
    )


def _content(shown: Shown) -> tuple[bool, bool]:
    """Whether content may be text, and whether it may be a list of parts."""
    listed = [{"role": "user", "content": [{"type": "text", "text": MARK}]}]
    as_parts = shown(messages=listed, add_generation_prompt=True) or ""
    parts = MARK in as_parts and "'type'" not in as_parts and '"type"' not in as_parts
    as_text = shown(messages=[{"role": "user", "content": MARK}], add_generation_prompt=True) or ""
    return MARK in as_text or not parts, parts


def _late_system(shown: Shown, say: Any) -> bool:
    """Whether system messages are shown after the first, after a user's turn and after an assistant's."""
    marks = [f"{MARK}-{place}" for place in ("second", "after-user", "after-assistant")]
    second, after_user, after_assistant = (say("system", mark) for mark in marks)
    told = [say("system", "s"), second, say("user", "q"), after_user, say("assistant", "a"), after_assistant]
    whole = shown(messages=[*told, say("user", "q")], add_generation_prompt=True) or ""
    return all(mark in whole for mark in marks)


def _offered(shown: Shown, say: Any) -> str | None:
    """A conversation in which a tool is on offer."""
    return shown(messages=[say("user", "q")], tools=[_TOOL], add_generation_prompt=True)


def _call(arguments: object, number: int = 1) -> Turn:
    # Nine characters of id: Mistral's templates refuse any other length.
    return {
        "id": f"call0000{number}",
        "type": "function",
        "function": {"name": "meshnode_tool", "arguments": arguments},
    }


def _called(shown: Shown, say: Any, *arguments: object) -> str | None:
    """A conversation in which a tool was called."""
    made = [_call(each, number) for number, each in enumerate(arguments, 1)]
    asked = [say("user", "q"), say("assistant", "") | {"tool_calls": made}]
    results = [say("tool", _RESULT) | {"tool_call_id": call["id"]} for call in made]
    told = [*asked, *results, say("assistant", "a"), say("user", "q")]
    return shown(messages=told, tools=[_TOOL], add_generation_prompt=True)


def _returned(say: Any) -> list[Turn]:
    """A conversation in which the assistant said something, and then a tool returned."""
    return [say("user", "q"), say("assistant", "a"), say("tool", _RESULT), say("assistant", "a"), say("user", "q")]


def _reads_objects(objects: str | None) -> bool:
    """Whether arguments as an object came out as JSON or field by field, not as Python prints them."""
    return _VALUE in (objects or "") and f"': '{_VALUE}'" not in (objects or "")


def _second_mark(shown: Shown, say: Any, objects: bool) -> bool:
    """Whether a second call in one turn is shown."""
    given: list[object] = [{MARK: _VALUE}, {MARK: _SECOND}]
    return _SECOND in (_called(shown, say, *(given if objects else map(json.dumps, given))) or "")


def _thinks(shown: Shown, say: Any) -> bool:
    """Whether the template has a use for thoughts: it shows them, or begins an answer otherwise when asked to think."""
    past = [say("user", "q"), say("assistant", "a") | {"reasoning_content": _THOUGHT}, say("user", "q")]
    kept = {"preserve_thinking": True, "clear_thinking": False, "truncate_history_thinking": False}
    if _THOUGHT in (shown(messages=past, add_generation_prompt=True, enable_thinking=True, **kept) or ""):
        return True
    ends = []
    for thinking in (True, False):
        asked = shown(messages=[say("user", "q")], enable_thinking=thinking, add_generation_prompt=True) or ""
        ends.append(asked.rpartition("q")[2] or asked[-40:])
    return ends[0] != ends[1] or ends[0].rstrip().endswith(_OPEN)


def _marks(shown: Shown, say: Any, *, field: bool) -> tuple[str, str] | None:
    """What stands before and after a thought in an assistant's turn."""
    opened = shown(messages=[say("user", "q")], enable_thinking=True, add_generation_prompt=True) or ""
    thought = {"reasoning_content": _THOUGHT} | ({"thinking": _THOUGHT} if field else {})
    turn = say("assistant", _SAID) | thought
    whole = shown(messages=[say("user", "q"), turn], enable_thinking=True, preserve_thinking=True) or ""
    before, found, after = whole.partition(_THOUGHT)
    if not found or _SAID not in after:
        return ("<think>", "</think>") if opened.rstrip().endswith("<think>") else None
    start = _ending(opened, before)
    if not start and (last := _OPENER.search(before)):
        start = last[0]
    if not start.strip():
        return None
    return start, after.partition(_SAID)[0]


def _lead(shown: Shown, say: Any) -> str:
    """What stands between the opening of an answer and plain text, where every answer has it."""
    opened = shown(messages=[say("user", "q")], enable_thinking=False, add_generation_prompt=True) or ""
    turn = shown(messages=[say("user", "q"), say("assistant", _SAID)], enable_thinking=False) or ""
    before, found, _ = turn.partition(_SAID)
    lead = before[len(opened) :] if found and opened and before.startswith(opened) else ""
    return lead if lead.strip() else ""


def _ending(rest: str, whole: str) -> str:
    """What ``whole`` has after the beginning that it shares with ``rest``."""
    shared = next((index for index, pair in enumerate(zip(rest, whole, strict=False)) if pair[0] != pair[1]), None)
    return whole[min(len(rest), len(whole)) if shared is None else shared :]
