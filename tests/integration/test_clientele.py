"""The parts of ``scripts/test_clients`` that need none of its environments: the director, the telling, the snippets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from clientele import environments
from clientele.agents.director import LAST_WORDS, Script, directed, directing, tool_results
from clientele.checks.checklist import Checklist, Skipped, Target
from clientele.environments import Unavailable
from clientele.outcomes import FAILED, PASSED, SKIPPED, Outcome, Results, run
from clientele.pasted import SHOWN, pointed, snippets
from tests.kit.api import Scripted, running_api, spoken

NOWHERE = Target("http://127.0.0.1:1", "http://127.0.0.1:1", "tiny")
BASH: dict[str, Any] = {"name": "Bash", "description": "runs", "input_schema": {"type": "object"}}
ASKED: dict[str, Any] = {"model": "m", "max_tokens": 32000, "messages": [{"role": "user", "content": "go"}]}
SCRIPT = Script("Bash", {"command": "true"})


def test_the_director_forces_the_call_in_anthropics_words() -> None:
    body = directed(ASKED | {"tools": [BASH, {"name": "Other"}], "thinking": {"type": "adaptive"}}, SCRIPT)
    assert body["tool_choice"] == {"type": "tool", "name": "Bash", "disable_parallel_tool_use": True}
    assert body["tools"][0]["input_schema"]["properties"] == {"command": {"const": "true"}}
    assert body["tools"][1] == {"name": "Other"}
    assert (body["max_tokens"], body["thinking"]) == (400, {"type": "disabled"})


def test_the_director_forces_the_last_words_once_a_result_is_there() -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}
    given = ASKED | {"tools": [BASH], "messages": [*ASKED["messages"], result], "output_config": {"effort": "low"}}
    body = directed(given, SCRIPT)
    assert body["tool_choice"] == {"type": "none"}
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"]["properties"] == {"said": {"const": LAST_WORDS}}
    assert tool_results(given) == ['"ok"']


def test_the_director_forces_the_call_in_openais_words() -> None:
    given = {
        "model": "m",
        "input": [],
        "tools": [{"type": "function", "name": "Bash", "parameters": {}}, {"type": "x"}],
    }
    body = directed(given, SCRIPT)
    assert body["tool_choice"] == {"type": "function", "name": "Bash"}
    assert body["tools"][0]["parameters"]["required"] == ["command"]
    after = directed(given | {"input": [{"type": "function_call_output", "output": "ok"}]}, SCRIPT)
    assert after["tool_choice"] == "none"
    assert after["text"]["format"]["strict"] is True


async def test_the_director_passes_the_rest_on_both_ways() -> None:

    async with running_api(Scripted(spoken("Hello"))) as api:
        script = Script()
        with directing(api.url, script) as url:
            async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:
                listed = await client.get("/v1/models")
                answer = await client.post("/v1/chat/completions", json={"messages": ASKED["messages"]})
                missing = await client.post("/v1/nothing", json={})
    assert listed.json()["object"] == "list"
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert missing.status_code == 404
    assert script.statuses == [200, 404]
    assert script.requests == []


def test_checks_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    check = Checklist[int]()

    @check("right")
    def right(of: int) -> None:
        assert of == 7

    @check("wrong")
    def wrong(of: int) -> None:
        raise ValueError(f"{of}\nis wrong")

    @check("void")
    def void(of: int) -> None:
        raise Skipped("no question")

    check.run(7)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["check"], one["outcome"]) for one in told] == [("right", PASSED), ("wrong", FAILED), ("void", SKIPPED)]
    assert told[1]["said"] == "ValueError: 7 is wrong"


def said_by(code: str, folder: Path) -> list[tuple[str, str]]:
    return [(one.check, one.outcome) for one in run([sys.executable, "-c", code], NOWHERE, folder)]


def test_a_program_is_heard_between_its_chatter_and_a_broken_one_is_a_failure(tmp_path: Path) -> None:
    line = json.dumps({"check": "one", "outcome": PASSED, "said": "", "took_s": 0.1})
    assert said_by(f"print('chatter'); print({line!r})", tmp_path) == [("one", PASSED)]
    broken = said_by(f"print({line!r}, flush=True); raise SystemExit('gone')", tmp_path)
    assert broken == [("one", PASSED), ("the program runs to its end", FAILED)]


def test_the_sums_count_what_failed_and_leave_out_what_was_skipped() -> None:
    results = Results()
    for outcome in (Outcome("a", PASSED), Outcome("b", FAILED, "no"), Outcome("c", SKIPPED, "why")):
        results.add("client", "meshnode", outcome)
    assert results.summary("meshnode") == "meshnode: 1 of 2 passed, 1 skipped"
    assert results.failures("meshnode") == 1
    assert results.failures("llama-server") == 0


def test_what_cannot_be_set_up_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match="no node and npm"):
        environments.npm("javascript")


def test_every_snippet_names_the_default_port_and_model() -> None:
    found = [snippet for language in ("curl", "python", "javascript") for snippet in snippets(language)]
    assert {snippet.name for snippet in found} >= set(SHOWN)
    for snippet in found:
        text = snippet.path.read_text(encoding="utf-8")
        assert "http://127.0.0.1:9337" in text, snippet.name
        assert "smollm2-135m-instruct" in text, snippet.name
        assert "9337" not in pointed(text, "http://127.0.0.1:1"), snippet.name
