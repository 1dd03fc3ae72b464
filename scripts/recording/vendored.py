"""The golden file of the templates vendored in llama.cpp's source: digests of what llama-server renders, and reasons.

``recorded.json`` has no text of others: per template the digest of its text, and per case the digest and the length of
the prompt, or the word ``error``. ``differences.json`` is written by hand: reasons, and where each holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from meshnode.engine.templates import ChatTemplate
from meshnode.errors import InvalidField, TemplateRefused
from provision.places import find_places
from recording.cases import CASES
from recording.requests import request_of

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "tests" / "golden" / "vendored_templates"
RECORDED = FOLDER / "recorded.json"
DIFFERENCES = FOLDER / "differences.json"
ERROR = "error"


def templates_folder() -> Path:
    """Where the templates' texts are, once ``scripts/test`` has fetched them."""
    return find_places(CHECKOUT, os.environ).templates


def digest(text: str) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a text, a colon, and its length in bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return f"{hashlib.sha256(data).hexdigest()[:16]}:{len(data)}"


def summary(properties: Mapping[str, str], source: str, outcomes: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """One template's entry of the golden file."""
    cases = {name: digest(made["prompt"]) if "prompt" in made else ERROR for name, made in outcomes.items()}
    return {"sha256": digest(source), "bos": properties["bos"], "eos": properties["eos"], "cases": cases}


def ours(source: str, entry: Mapping[str, Any], day: datetime) -> dict[str, str]:
    """What the engine makes of each case, as digests and as whole texts under ``text`` names."""
    template = ChatTemplate(source, bos=entry["bos"], eos=entry["eos"], now=lambda: day)
    made = {}
    for name, fields in CASES.items():
        try:
            made[name] = template.render(
                request_of(fields), add_generation_prompt=fields.get("add_generation_prompt", True)
            )
        except (TemplateRefused, InvalidField) as refusal:
            made[name] = f"{ERROR}: {refusal}"
    return made


def different(made: Mapping[str, str], entry: Mapping[str, Any]) -> list[str]:
    """Names of the cases in which the engine and llama-server disagree."""
    said = {name: ERROR if text.startswith(f"{ERROR}: ") else digest(text) for name, text in made.items()}
    return [name for name, expected in entry["cases"].items() if said[name] != expected]


def reasons() -> dict[str, dict[str, str]]:
    """Per template and case, why it differs."""
    found: dict[str, dict[str, str]] = {}
    for each in json.loads(DIFFERENCES.read_text(encoding="utf-8")):
        for template, cases in each["where"].items():
            found.setdefault(template, {}).update(dict.fromkeys(cases, each["reason"]))
    return found


def revealed(source: str, entry: Mapping[str, Any], day: datetime) -> str:
    """What a template has words for, and how an answer begins, as one line."""
    template = ChatTemplate(source, bos=entry["bos"], eos=entry["eos"], now=lambda: day)
    takes, opening = template.takes(), template.prompt(request_of(CASES["user"])).opening
    has = {
        "tools": takes.tools,
        "calls": takes.tool_calls,
        "several calls": takes.parallel_calls,
        "results": takes.results,
        "thoughts": takes.thinking,
    }
    return f"{', '.join(word for word, there in has.items() if there) or 'text only'}; begins {opening!r}"


def table() -> list[str]:
    """Template by template: how many cases are equal, what it has words for, and why the other cases are not."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    day, known, lines, equal, total = datetime.fromisoformat(recorded["day"]), reasons(), [], 0, 0
    for name, entry in recorded["templates"].items():
        source = (templates_folder() / name).read_text(encoding="utf-8")
        unlike = different(ours(source, entry, day), entry)
        total, equal = total + len(entry["cases"]), equal + len(entry["cases"]) - len(unlike)
        counted = f"{len(entry['cases']) - len(unlike):3} equal {len(unlike):3} different"
        lines.append(f"{name:55} {counted}   {revealed(source, entry, day)}")
        because: dict[str, list[str]] = {}
        for case in unlike:
            because.setdefault(known.get(name, {}).get(case, "NO REASON IS LISTED"), []).append(case)
        lines += [f"    {reason} [{', '.join(cases)}]" for reason, cases in because.items()]
    return [*lines, f"{equal} of {total} equal"]
