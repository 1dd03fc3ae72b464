"""The families, most specific first, and which of them a chat template belongs to. Pure.

What each writes was read from the templates of its models. A template is known by its marks: all texts of one row of
:data:`TABLE` must stand in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from meshnode.engine.replies import harmony
from meshnode.engine.replies.family import Family, Opening, Thinking
from meshnode.engine.replies.json_calls import JsonCalls
from meshnode.engine.replies.named_calls import NamedCalls
from meshnode.engine.replies.python_calls import PythonCalls
from meshnode.engine.replies.tagged_calls import TaggedCalls

THINK: Final = Thinking("<think>", ("</think>",))
_HERMES: Final = JsonCalls(closes=("</tool_call>",), lead="\n", trail="\n")
_FENCES: Final = ("```json\n", "```\n", "```tool_call\n", "```tool_code\n")
_FENCED: Final = Opening(_FENCES, JsonCalls(closes=("```",), whole=True))
_BARE: Final = Opening(("{", "["), JsonCalls(whole=True), anywhere=False, forces=True, joint="\n")

HERMES: Final = Family("hermes", (THINK,), (Opening(("<tool_call>",), _HERMES, forces=True, joint="\n"),))
GENERIC: Final = Family(
    "generic",
    (THINK,),
    (
        _BARE,
        _FENCED,
        Opening(("<tool_call>",), _HERMES),
        Opening(("<|tool_call|>",), JsonCalls(closes=("<|/tool_call|>", "</tool_call>"))),
    ),
)
LLAMA3: Final = Family(
    "llama3",
    (THINK,),
    (
        Opening(("{",), JsonCalls(whole=True, held="parameters"), anywhere=False, forces=True, joint="\n"),
        Opening(("<|python_tag|>",), PythonCalls(listed=False, codes=True)),
        _FENCED,
    ),
)
_MISTRAL_THINK: Final = Thinking("[THINK]", ("[/THINK]",))
MISTRAL: Final = Family(
    "mistral",
    (_MISTRAL_THINK, THINK),
    (Opening(("[TOOL_CALLS]",), JsonCalls(listed=True), forces=True),),
)
MISTRAL_ARGS: Final = Family(
    "mistral-args",
    (_MISTRAL_THINK, THINK),
    (Opening(("[TOOL_CALLS]",), NamedCalls("[ARGS]", id_mark="[CALL_ID]"), forces=True),),
)
_SECTION: Final = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_DEEPSEEK: Final = NamedCalls("<｜tool▁sep｜>", closes=("<｜tool▁call▁end｜>",), skipped="function")
DEEPSEEK_R1: Final = Family(
    "deepseek-r1",
    (THINK,),
    (
        Opening(
            ("<｜tool▁call▁begin｜>",),
            replace(_DEEPSEEK, head="function<｜tool▁sep｜>", fenced=True),
            forces=True,
            around=_SECTION,
            joint="\n",
        ),
    ),
    dropped=_SECTION,
)
DEEPSEEK_V3: Final = replace(
    DEEPSEEK_R1,
    name="deepseek-v3.1",
    openings=(Opening(("<｜tool▁call▁begin｜>",), _DEEPSEEK, forces=True, around=_SECTION),),
)


def _dsml(section: str) -> Family:
    syntax = TaggedCalls(
        call='<｜DSML｜invoke name="',
        named='">',
        parameter='<｜DSML｜parameter name="',
        valued=('" string="true">', '" string="false">', '">'),
        ends="</｜DSML｜parameter>",
        closes=("</｜DSML｜invoke>",),
        section=(f"</｜DSML｜{section}>",),
        typed=(('" string="true">', True), ('" string="false">', False)),
        line="",
    )
    opening = Opening((f"<｜DSML｜{section}>",), syntax, forces=True)
    return Family(f"deepseek-dsml-{section.replace('_', '-')}", (THINK,), (opening,), calls_end_thought=True)


DSML: Final = _dsml("function_calls")
DSML_V4: Final = _dsml("tool_calls")
HARMONY: Final = Family(
    "harmony",
    openings=(Opening(("<|channel|>",), harmony.HarmonyCalls(), forces=True),),
    reader=harmony.read_reply,
    begins=harmony.begins,
    start=harmony.start,
)
FUNCTIONARY: Final = Family(
    "functionary-v3.1",
    openings=(
        Opening(("<function=",), NamedCalls(">", closes=("</function>",)), forces=True),
        Opening(("<|python_tag|>",), PythonCalls(listed=False, codes=True)),
    ),
)
FUNCTIONARY_32: Final = Family(
    "functionary-v3.2",
    openings=(Opening((">>>",), NamedCalls("\n", speaks="all"), forces=True),),
    begins=lambda tail: ">>>" if tail.endswith(">>>") else "",
    speaks="all\n",
)
_GRANITE_DROPPED: Final = ("<response>", "</response>")
GRANITE: Final = Family(
    "granite-3",
    (THINK,),
    (
        Opening(("<|tool_call|>",), JsonCalls(listed=True), forces=True),
        Opening(("<tool_call>",), _HERMES),
    ),
    dropped=_GRANITE_DROPPED,
)
_COHERE_THINK: Final = Thinking("<|START_THINKING|>", ("<|END_THINKING|>",))
COMMAND_R7B: Final = Family(
    "command-r7b",
    (_COHERE_THINK,),
    (
        Opening(
            ("<|START_ACTION|>",),
            JsonCalls(closes=("<|END_ACTION|>",), key="tool_name", held="parameters", listed=True),
            forces=True,
        ),
    ),
    dropped=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
)
COMMAND_R: Final = Family(
    "command-r",
    openings=(
        Opening(
            ("Action:\n```json\n", "Action: ```json\n"),
            JsonCalls(closes=("```",), key="tool_name", held="parameters", listed=True, trail="\n"),
            forces=True,
        ),
    ),
    dropped=("<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
)
KIMI_K2: Final = Family(
    "kimi-k2",
    (THINK,),
    (
        Opening(
            ("<|tool_call_begin|>",),
            NamedCalls("<|tool_call_argument_begin|>", closes=("<|tool_call_end|>",), numbered=True),
            forces=True,
            around=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ),
    ),
    dropped=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    calls_end_thought=True,
)
_GLM: Final = TaggedCalls(
    call="",
    named="",
    parameter="<arg_key>",
    valued=("</arg_key>",),
    between="<arg_value>",
    ends="</arg_value>",
    closes=("</tool_call>",),
    line="",
)
GLM: Final = Family(
    "glm-4", (THINK,), (Opening(("<tool_call>",), _GLM, forces=True, joint="\n"),), calls_end_thought=True
)
_QWEN: Final = TaggedCalls(
    call="<function=",
    named=">",
    parameter="<parameter=",
    valued=(">",),
    ends="</parameter>",
    closes=("</function>",),
    section=("</tool_call>",),
)
QWEN3_CODER: Final = Family(
    "qwen3-coder",
    (THINK,),
    (Opening(("<tool_call>",), _QWEN, forces=True, joint="\n"), Opening(("<function=",), _QWEN)),
    calls_end_thought=True,
)
_SEED: Final = replace(_QWEN, section=("</seed:tool_call>",))
SEED: Final = Family(
    "seed-oss",
    (Thinking("<seed:think>", ("</seed:think>",)),),
    (Opening(("<seed:tool_call>",), _SEED, forces=True),),
)
_MINIMAX: Final = TaggedCalls(
    call='<invoke name="',
    named='">',
    parameter='<parameter name="',
    valued=('">',),
    ends="</parameter>",
    closes=("</invoke>",),
    section=("</minimax:tool_call>",),
    line="",
)
MINIMAX_M2: Final = Family("minimax-m2", (THINK,), (Opening(("<minimax:tool_call>",), _MINIMAX, forces=True),))
_MINICPM: Final = TaggedCalls(
    call='<function name="',
    named='">',
    parameter='<param name="',
    valued=('">',),
    ends="</param>",
    closes=("</function>",),
    line="",
    wide="",
)
MINICPM5: Final = Family("minicpm-5", (THINK,), (Opening(('<function name="',), _MINICPM, forces=True),))
LFM2: Final = Family(
    "lfm2",
    (THINK,),
    (Opening(("<|tool_call_start|>",), PythonCalls(closes=("<|tool_call_end|>",)), forces=True),),
)


def _listed(name: str, opens: str, closes: str, *, named: bool = False) -> Family:
    syntax = JsonCalls(closes=(closes,), listed=True, named=named)
    return Family(name, (THINK,), (Opening((opens,), syntax, forces=True),))


APERTUS: Final = _listed("apertus", "<|tools_prefix|>", "<|tools_suffix|>", named=True)
NEMOTRON: Final = _listed("nemotron-nano-2", "<TOOLCALL>", "</TOOLCALL>")
APRIEL: Final = Family(
    "apriel",
    (Thinking("Here are my reasoning steps:", ("[BEGIN FINAL RESPONSE]",)), THINK),
    (Opening(("<tool_calls>",), JsonCalls(closes=("</tool_calls>",), listed=True), forces=True),),
    dropped=("<|end|>",),
)
MINIMAX_M1: Final = replace(APRIEL, name="minimax-m1", thoughts=(THINK,), dropped=())
FIREFUNCTION: Final = Family(
    "firefunction-v2", openings=(Opening(("functools[",), JsonCalls(listed=True), forces=True),)
)
GIGACHAT: Final = Family("gigachat-3.1", openings=(Opening(("<|function_call|>",), JsonCalls(), forces=True),))

TABLE: Final[tuple[tuple[tuple[str, ...], Family], ...]] = (
    (("<|channel|>", "<|message|>"), HARMONY),
    ((">>>all",), FUNCTIONARY_32),
    (("DSML", "function_calls"), DSML),
    (("DSML", "tool_calls"), DSML_V4),
    (("<|tool_call_begin|>",), KIMI_K2),
    (("tool▁call▁begin", "```json"), DEEPSEEK_R1),
    (("tool▁call▁begin",), DEEPSEEK_V3),
    (("<arg_key>", "<tool_call>"), GLM),
    (("minimax[>[",), GENERIC),
    (("<minimax:tool_call>",), MINIMAX_M2),
    (("<seed:tool_call>",), SEED),
    (("<tool_call>", "<function=", "<parameter="), QWEN3_CODER),
    (('<function name="', '<param name="'), MINICPM5),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_ARGS),
    (("[TOOL_CALLS]",), MISTRAL),
    (("<|START_ACTION|>",), COMMAND_R7B),
    (("<|CHATBOT_TOKEN|>",), COMMAND_R),
    (("<|tool_call_start|>",), LFM2),
    (("List of tools: ",), LFM2),
    (("<|tools_prefix|>",), APERTUS),
    (("<TOOLCALL>",), NEMOTRON),
    (("<tool_calls>", "[BEGIN FINAL RESPONSE]"), APRIEL),
    (("<tool_calls>", "<|assistant|>"), APRIEL),
    (("<tool_calls>",), MINIMAX_M1),
    (("functools[",), FIREFUNCTION),
    (("<|function_call|>",), GIGACHAT),
    (("<function=", "</function>"), FUNCTIONARY),
    (("<|start_of_role|>", "<|tool_call|>"), GRANITE),
    (("<tool_call>",), HERMES),
    (("<|python_tag|>",), LLAMA3),
    (("<|start_header_id|>", '"parameters"'), LLAMA3),
)
"""Texts that must all stand in a template, and the family of those that have them; the first row that fits counts."""


def family_of(template_source: str | None) -> Family:
    """The family a chat template belongs to; :data:`GENERIC` for one without known marks, and for none."""
    source = template_source or ""
    family = next((family for marks, family in TABLE if all(mark in source for mark in marks)), GENERIC)
    thinks = any(each.opens in source for each in family.thoughts) or family is HARMONY
    return replace(family, thinks=thinks)


def reading_fences(family: Family) -> Family:
    """The family, which also reads calls as :mod:`meshnode.engine.tool_texts` tells a model to write them."""
    return family if _FENCED in family.openings else replace(family, openings=(*family.openings, _FENCED))
