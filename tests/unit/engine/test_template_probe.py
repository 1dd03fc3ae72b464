"""What a template takes is found by what it shows."""

from __future__ import annotations

from datetime import datetime

import pytest

from meshnode.engine.template_probe import probe
from meshnode.engine.template_sandbox import environment
from meshnode.engine.turns import Takes

CALLS = "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ ARGUMENTS }}]{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"


def probed(source: str) -> Takes:
    """The outcome for a template."""
    template = environment(lambda: datetime(2025, 3, 4)).from_string(source)

    def shown(**given: object) -> str | None:
        try:
            return template.render(given)
        except Exception:
            return None

    return probe(source, shown)


def with_calls(arguments: str) -> str:
    """A template that writes calls, their arguments in this way."""
    body = CALLS.replace("ARGUMENTS", arguments)
    return f"{{% for m in messages %}}{{{{ m.content }}}}{body}{{% endfor %}}"


def test_a_plain_template_takes_text_and_nothing_else() -> None:
    takes = probed(PLAIN)
    assert (takes.text, takes.parts, takes.system) == (True, False, True)
    assert [takes.tools, takes.tool_calls, takes.parallel_calls, takes.thinking] == [False] * 4
    assert takes.results


def test_parts_alone() -> None:
    takes = probed("{% for m in messages %}{{ m.content[0].text }}{% endfor %}")
    assert (takes.text, takes.parts) == (False, True)


def test_a_system_message_that_is_refused_or_left_out() -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    assert not probed(refusing).system
    assert not probed("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}").system


@pytest.mark.parametrize(
    ("source", "late"),
    [
        (PLAIN, True),
        ("{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('no') }}{% endif %}"
         "{{ m.content }}{% endfor %}", False),
        ("{% for m in messages if m.role != 'system' or loop.first %}{{ m.content }}{% endfor %}", False),
        ("{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.s = m.content %}"
         "{% endif %}{% endfor %}{{ ns.s }}{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}",
         False),
        ("{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}"
         "{% endif %}{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}{{ m.content[0].text }}{% endfor %}", True),
    ],
)  # fmt: skip
def test_system_messages_after_the_first(source: str, late: bool) -> None:
    assert probed(source).late_system is late


@pytest.mark.parametrize(
    ("arguments", "objects"),
    [
        ("c.function.arguments | tojson", True),
        ("c.function.arguments", False),
        ("c.function.arguments if c.function.arguments is string else c.function.arguments | tojson", True),
    ],
)
def test_arguments_as_the_template_writes_them(arguments: str, objects: bool) -> None:
    takes = probed(with_calls(arguments))
    assert (takes.argument_objects, takes.tool_calls, takes.parallel_calls) == (objects, True, True)


def test_one_call_only() -> None:
    first = "{% if m.tool_calls %}{{ m.tool_calls[0] | tojson }}{% endif %}"
    takes = probed(f"{{% for m in messages %}}{{{{ m.content }}}}{first}{{% endfor %}}")
    assert (takes.tool_calls, takes.parallel_calls) == (True, False)


def test_results_that_are_refused_or_left_out() -> None:
    assert not probed("{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}").results
    refusing = "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"
    assert not probed(refusing + "{% endfor %}").results
    assert probed(with_calls("c.function.arguments")).results


def test_tools_are_taken_where_they_are_shown() -> None:
    assert probed(PLAIN + "{{ tools | tojson }}").tools
    assert not probed(PLAIN + "{% if tools %}!{% endif %}").tools


def test_thoughts_and_their_marks() -> None:
    shows = "{% for m in messages %}{% if m.reasoning_content %}<t>{{ m.reasoning_content }}</t>\n{% endif %}"
    takes = probed(shows + "{{ m.content }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}")
    assert takes.thinking
    assert takes.thought_marks is not None
    assert takes.thought_marks[1] == "</t>\n"
    switch = PLAIN + "{% if add_generation_prompt and not enable_thinking %}<off>{% endif %}"
    assert probed(switch).thinking


def test_what_every_answer_begins_with() -> None:
    header = "{% for m in messages %}>>>{% if m.role == 'assistant' %}all\n{% endif %}{{ m.content }}{% endfor %}"
    assert probed(header + "{% if add_generation_prompt %}>>>{% endif %}").lead == "all\n"
    assert probed(PLAIN).lead == ""


def test_a_template_that_always_fails_takes_no_tools() -> None:
    takes = probed("{{ raise_exception('no') }}")
    assert [takes.tools, takes.tool_calls, takes.thinking] == [False] * 3
