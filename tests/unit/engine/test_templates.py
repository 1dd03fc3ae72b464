"""Templates render as llama-server renders them, and a hostile one ends with an error, soon, and nothing else."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from meshnode.domain import GenerationRequest
from meshnode.engine import templates
from meshnode.engine.templates import ChatTemplate
from meshnode.errors import InvalidField, MeshnodeError, ModelFailed, TemplateRefused
from recording.requests import request_of

GOLDEN = Path(__file__).parents[2] / "golden" / "templates"
NO_HEADER = "llama-server leaves out the assistant's header, so that the model would have to write it"
OUR_TOOLS = "the template shows no tools, calls or results: texts of ours tell of them"
OUR_LATE_SYSTEM = "the template refuses a system message in mid-conversation: the user says it"
DIFFERENT = {
    "strict-system_in_mid_conversation": OUR_LATE_SYSTEM,
    **{
        f"{template}-{case}": OUR_TOOLS
        for template in ("parts", "smollm2-135m-instruct-q4_1")
        for case in ("tools", "tool_call", "two_tool_calls")
    },
    **{f"strict-{case}": OUR_TOOLS for case in ("tools", "tool_call", "two_tool_calls")},
    "smollm2-135m-instruct-q4_1-assistant_last_empty": NO_HEADER,
    "parts-assistant_last_empty": NO_HEADER,
    "tools-assistant_last_empty": NO_HEADER,
}
"""Cases in which we render something else on purpose, and why."""


def noon() -> datetime:
    """The time that templates see."""
    return datetime(2025, 3, 4, 12, 0, 0)


def say(*texts: str, role: str = "user") -> GenerationRequest:
    """A request of one message."""
    return request_of({"messages": [{"role": role, "content": [{"text": text} for text in texts]}]})


def chat_template(source: str | None, *, cpu_s: float = 0.3) -> ChatTemplate:
    """A template as the engine makes it, with little time."""
    return ChatTemplate(source, bos="<s>", eos="</s>", now=noon, cpu_s=cpu_s)


# --- as llama-server --------------------------------------------------------------------------


def golden_cases() -> list[Any]:
    """Each recorded case of each template."""
    cases = []
    for path in sorted(GOLDEN.glob("*.json")):
        golden = json.loads(path.read_text())
        for name, case in golden["cases"].items():
            cases.append(pytest.param(golden, case, id=f"{path.stem}-{name}"))
    return cases


@pytest.mark.parametrize(("golden", "case"), golden_cases())
def test_renders_what_llama_server_renders(
    golden: dict[str, Any], case: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    template = ChatTemplate(golden["template"], bos=golden["bos"], eos=golden["eos"], now=noon)
    asked, begins = request_of(case["request"]), case["request"].get("add_generation_prompt", True)
    if "error" in case and name not in DIFFERENT:
        with pytest.raises((TemplateRefused, InvalidField)):
            template.render(asked, add_generation_prompt=begins)
        return
    rendered = template.render(asked, add_generation_prompt=begins)
    assert (rendered == case.get("prompt")) != (name in DIFFERENT)


def test_there_are_golden_cases_of_the_default_model() -> None:
    golden = json.loads((GOLDEN / "smollm2-135m-instruct-q4_1.json").read_text())
    assert len(golden["cases"]) > 30


# --- what templates find ----------------------------------------------------------------------


def test_a_model_without_template_is_asked_in_chatml() -> None:
    prompt = chat_template(None).render(say("Hello"))
    assert prompt == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_the_template_refuses_in_its_own_words() -> None:
    with pytest.raises(TemplateRefused, match=r"roles must alternate") as caught:
        chat_template("{{ raise_exception('roles must alternate') }}").render(say("x"))
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_a_foreign_error_says_where_but_quotes_nothing() -> None:
    with pytest.raises(TemplateRefused) as caught:
        chat_template("\n\n{{ messages[0].content + 7 }}").render(say("my secret"))
    assert "TypeError, line 3" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ strftime_now('%d %b %Y') }} {{ date_string }}", "04 Mar 2025 04 Mar 2025"),
        ("{{ {'a': ['<é>', none]} | tojson }}", '{"a": ["<é>", null]}'),
        ("{{ {'a': 1} | tojson(indent=2) }}", '{\n  "a": 1\n}'),
        ("{{ bos_token }}|{{ eos_token }}", "<s>|</s>"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "hi!"),
        ("{{ tools is defined }} {{ messages[0].name is defined }}", "False False"),
        ("{{ messages[0].content }}<&>", "hi<&>"),
    ],
)
def test_templates_find_what_they_are_written_against(source: str, expected: str) -> None:
    assert chat_template(source).render(say("hi")) == expected


def test_kwargs_reach_the_template_but_not_what_is_ours() -> None:
    template = chat_template("{{ style }}{{ enable_thinking is defined }}")
    given = request_of({"messages": [], "chat_template_kwargs": {"style": "terse"}})
    assert template.render(given) == "terseTrue"
    for kwargs in ({"bos_token": "x"}, ["style"]):
        with pytest.raises(InvalidField, match="chat_template_kwargs"):
            template.render(request_of({"messages": [], "chat_template_kwargs": kwargs}))


def test_wishes_about_thinking_have_the_names_that_templates_know() -> None:
    def told(source: str, **fields: Any) -> str:
        return chat_template(source).render(request_of({"messages": []} | fields))

    thinker = "{{ enable_thinking }}{% if add_generation_prompt %}<think>{% endif %}"
    assert told(thinker) == "True<think>"
    assert told(thinker, reasoning_effort="none") == "False<think>"
    assert told(thinker, chat_template_kwargs={"enable_thinking": False}) == "False<think>"
    assert told("{% if enable_thinking %}on{% else %}{{ enable_thinking }}{% endif %}A:") == "onA:"
    assert told("{{ reasoning_effort }}{{ reasoning_strength }}", reasoning_effort="low") == "lowlow"
    kept = "{{ preserve_thinking }}{{ clear_thinking }}{{ drop_thinking }}"
    assert told(kept) == "TrueFalseFalse"
    assert told(kept, chat_template_kwargs={"preserve_reasoning": False}) == "FalseTrueTrue"


def test_calls_one_at_a_time_are_told_to_templates_that_ask() -> None:
    asks = chat_template("{% if parallel_tool_calls is defined and not parallel_tool_calls %}one{% endif %}")
    assert asks.render(request_of({"messages": [], "parallel_tool_calls": False})) == "one"
    assert asks.render(request_of({"messages": []})) == ""


TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def test_a_template_without_tools_is_told_of_them_in_our_words() -> None:
    template = chat_template(None)
    offered = {"messages": [{"role": "user", "content": "q"}], "tools": [TOOL]}
    prompt = template.render(request_of(offered))
    assert prompt.startswith("<|im_start|>system\nYou can call these tools")
    assert '{"name": "f", "description": "d", "parameters": {"type": "object"}}' in prompt
    assert "several at once" in prompt
    assert "one tool at a time" in template.render(request_of(offered | {"parallel_tool_calls": False}))
    assert "tools" not in template.render(request_of(offered | {"tool_choice": "none"}))
    assert not template.takes().tools


SAID = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
OPENS = "{% if add_generation_prompt %}A:<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("source", "opening"),
    [
        (SAID + OPENS, "A:<think>\n"),
        (SAID + "A:<think>", "]A:<think>"),
        (SAID + "{% if add_generation_prompt %}<|a|>{% else %}<|end|>{% endif %}", "]<|a|>"),
        ("{% if add_generation_prompt %}B{% endif %}" + SAID + OPENS, "]A:<think>\n"),
        ("{{ messages | length }}", ""),
        ("{{ messages | tojson }}" + OPENS, "A:<think>\n"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", ""),
    ],
)
@pytest.mark.parametrize("said", ["q", "", "<think>", "A:<think>", "[q]A:</think><think>\n", "think", "]"])
def test_the_opening_is_the_templates_whatever_was_said(source: str, opening: str, said: str) -> None:
    text, found = chat_template(source).prompt(say(said))
    assert text == chat_template(source).render(say(said))
    assert found == opening
    assert text.endswith(found)


def test_a_template_that_refuses_a_marked_text_has_no_known_opening() -> None:
    picky = "{% if messages[0].content != 'q' %}{{ raise_exception('only q') }}{% endif %}q:"
    assert chat_template(picky).prompt(say("q")) == ("q:", "")


@pytest.mark.parametrize(
    "opens", [OPENS, "A:<think>\n", "{% if add_generation_prompt %}A:<think>\n{% else %}.{% endif %}"]
)
def test_an_answer_goes_on_after_the_opening(opens: str) -> None:
    template = chat_template(SAID + opens)
    asked = [{"role": "user", "content": "<think>"}, {"role": "assistant", "content": "It <is"}]
    text, opening = template.prompt(request_of({"messages": asked}))
    assert text == "[<think>]A:<think></think>It <is" == template.render(request_of({"messages": asked}))
    assert opening.removeprefix("]") == "A:<think></think>It <is"


def test_a_template_is_run_as_often_as_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, really = [0], templates._run

    def counted(template: Any, known: Any) -> str:
        runs[0] += 1
        return really(template, known)

    monkeypatch.setattr(templates, "_run", counted)
    template = chat_template(None)
    template.takes()
    probing = runs[0]
    template.render(say("q"))
    assert runs[0] == probing + 1
    template.prompt(say("q"))
    assert runs[0] == probing + 1 + 2


def test_calls_and_results_are_told_where_the_template_has_no_words_for_them() -> None:
    alternating = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"n": 1.50}'}}
    told = chat_template(alternating).render(
        request_of(
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c1", "content": "42"},
                ]
            }
        )
    )
    asked = '<user>q<assistant>```json\n{"name": "f", "arguments": {"n": 1.50}}\n```'
    assert told == asked + "<user>The tool f returned:\n42"


def test_one_template_serves_many_requests() -> None:
    template = chat_template("{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ messages[0].content }}")
    assert [template.render(say(text)) for text in "ab"] == ["1a", "1b"]


# --- hostile templates ------------------------------------------------------------------------

REACH = {
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "globals_of_a_class": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "attr_filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "map_attribute": "{{ [messages]|map(attribute='__class__.__mro__')|list }}",
    "format": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "format_map": "{{ '{a.__class__.__mro__}'.format_map({'a': messages}) }}",
    "self": "{{ self._TemplateReference__context.environment.globals }}",
    "import": "{% import 'os' as os %}{{ os.getcwd() }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends 'base' %}",
    "changing_the_messages": "{{ messages.clear() }}",
    "code": "{{ strftime_now.__code__.co_consts }}",
    "group_by": "{{ [raise_exception] | groupby('__globals__') | map(attribute=0) | first }}",
    "sum_of_attributes": "{{ [raise_exception] | sum(attribute='__globals__') }}",
    "sort_by_attribute": "{{ [raise_exception, strftime_now] | sort(attribute='__code__.co_consts') | list }}",
    "select_by_attribute": "{{ [raise_exception] | selectattr('__globals__.json') | list }}",
    "macro_function": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "format_by_a_name": "{% set f = '{a.__globals__}'.format_map %}{{ f({'a': raise_exception}) }}",
    "json_class": "{{ 1 | tojson(cls=namespace) }}",
    "generator_frame": "{{ ([1]|map('abs')).gi_frame.f_back.f_globals }}",
}
BOMBS = {
    "nested_loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "long_range": "{% for a in range(10**9) %}{% endfor %}",
    "loop_in_filters": "{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
    "recursive_macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "doubling_macro": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive_loop": "{% for a in [1] recursive %}{{ loop([1,1]) }}{% endfor %}",
    "long_string": "{{ 'a' * 10**12 }}",
    "long_list": "{{ [1] * 10**10 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "product": "{% set n = namespace(x=9) %}{% for a in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "doubling_string": "{% set n = namespace(x='aa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling_block": "{% set x = 'a' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "replace": "{% set n = namespace(x='aa') %}{% for a in range(9) %}{% set n.x = n.x|replace('a',n.x) %}{% endfor %}",
    "center": "{{ 'a'|center(10**12) }}",
    "percent": "{{ '%1000000000000d' % 1 }}",
    "format_width": "{{ '{:>1000000000000}'.format(1) }}",
    "indent": "{{ messages|tojson(indent=10**11) }}",
    "huge_output": "{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "slices": "{{ [1]|slice(10**9)|list|length }}",
    "date_width": "{{ strftime_now('%1000000000d') }}",
    "deep_expression": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep_blocks": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "method_center": "{{ 'a'.center(10**12) }}",
    "method_zfill": "{{ 'a'.zfill(10**12) }}",
    "method_replace": (
        "{% set n = namespace(x='aa') %}{% for a in range(9) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}"
    ),
    "format_star": "{{ '%*d' % (10**9, 1) }}{{ '%*d' % (2 * 10**9, 1) }}",
    "floor_division": "{{ 10 ** 5000 // 3 }}",
    "modulo": "{{ 10 ** 5000 % 3 }}",
    "list_of_itself": "{% set a = [] %}{{ a.append(a) }}{{ a | tojson }}",
    "doubling_list": "{% set a = [1] %}{% for i in range(60) %}{{ a.extend(a) }}{% endfor %}",
    "growing_list": "{% set a = [1] %}{% for i in a %}{{ a.append(i) }}{% endfor %}",
    "cycler": (
        "{% set c = cycler(*range(99999)) %}{% for a in range(99999) %}"
        "{% for b in range(99) %}{{ c.next() }}{% endfor %}{% endfor %}"
    ),
    "joiner": "{% set j = joiner('a' * 99999) %}{% for a in range(99999) %}{{ j() }}{% endfor %}",
    "join": "{{ ['a' * 9999] | join('b') }}{{ range(99999) | join('c' * 99999) }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "mutual_macros": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "caller": (
        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}"
        "{{ n() }}{% endcall %}{% endmacro %}{{ n() }}"
    ),
    "sort_of_products": "{% for a in range(99999) %}{{ range(99999) | sort(reverse=true) | length }}{% endfor %}",
    "round": "{{ 1 | round(10**9, 'ceil') }}",
    "float_digits": "{{ '%.2000000000f' % 1.0 }}",
    "expand_tabs": "{{ ('\\t' * 1000).expandtabs(10**6) }}",
    "wrap": "{{ ('a b' * 99999) | wordwrap(1) | length }}",
    "between_letters": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "translate": "{{ 'abc'.translate({97: 'x' * 10**9}) }}",
    "digits": "{{ ('f' * 10**7) | int(base=16) }}",
    "shared_lists": "{% set a = [[[[[1] * 99] * 99] * 99] * 99] * 99 %}{{ a }}",
    "shared_lists_json": "{{ [[[[[1] * 99] * 99] * 99] * 99] | tojson(indent=1000) }}",
    "lists_of_each_other": "{% set a = [] %}{% set b = [] %}{{ a.append(b) or b.append(a) or a == b }}",
    "inserting": "{% set a = [] %}{% for i in range(99999) %}{{ a.insert(0, i) }}{% endfor %}",
    "many_lists": "{% set a = [] %}{% for i in range(99999) %}{{ a.append(range(99999) | list) }}{% endfor %}",
    "turns_of_a_loop": "{% for i in range(99999) %}{{ loop.cycle(*range(99999)) }}{% endfor %}",
    "slow_only_when_probed": (
        "{% if not tools %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    ),
    "long_source": "a" * (templates.MAX_SOURCE + 1),
    "syntax": "{% for %}",
    "surrogate": "{{ '\ud800' }}{% endif %}",
}


@pytest.mark.parametrize("name", REACH)
def test_a_template_reaches_nothing_but_the_conversation(name: str) -> None:
    try:
        rendered = chat_template(REACH[name]).render(say("hi"))
    except (TemplateRefused, ModelFailed):
        return
    assert rendered in ("", "[Undefined]")


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_would_not_end_does(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(MeshnodeError) as caught:
        chat_template(BOMBS[name]).render(say("hi"))
    assert isinstance(caught.value, ModelFailed | TemplateRefused)
    assert time.thread_time() - began < 2
    assert len(str(caught.value)) < 700


def test_a_hostile_template_leaves_the_next_one_alone() -> None:
    with pytest.raises(ModelFailed, match="CPU time"):
        chat_template(BOMBS["nested_loops"]).render(say("hi"))
    assert chat_template(None).render(say("Hello")).startswith("<|im_start|>user\nHello")


def test_a_long_conversation_is_not_a_hostile_template() -> None:
    turn = {"role": "user", "content": "é" * 20_000}
    prompt = chat_template(None, cpu_s=2).render(request_of({"messages": [turn] * 500}))
    assert len(prompt) > 500 * 20_000
