"""What users would paste, run as it stands, and the official SDK's strict checks, against a node on SmolLM2."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clientele.checks.checklist import Target
from clientele.outcomes import PASSED, run
from clientele.pasted import Snippet, command, snippets, verdict
from tests.kit.node import Node, environment, running_node
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.slow, pytest.mark.model]

README = Path(__file__).parents[2] / "README.md"
MODEL = "smollm2-135m-instruct"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    flags = ("--model", str(smollm2_path()), "--context", "8192", "--slots", "4")
    with running_node(tmp_path_factory.mktemp("node") / "home", *flags) as started:
        yield started


@pytest.mark.parametrize("snippet", [*snippets("curl"), *snippets("python")], ids=lambda snippet: snippet.name)
def test_a_snippet_does_what_it_is_for(node: Node, tmp_path: Path, snippet: Snippet) -> None:
    needed = re.findall(r"^from (\w+) import", snippet.path.read_text(encoding="utf-8"), re.MULTILINE)
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        pytest.skip(f"{missing[0]} is not in this environment: scripts/test_clients runs it")
    if snippet.language == "curl" and not shutil.which("curl"):
        pytest.skip("no curl")
    assert verdict(snippet, node.api, tmp_path, command(snippet.language), environment()) == ""


@pytest.mark.parametrize(("language", "fence", "suffix"), [("curl", "sh", ".sh"), ("python", "python", ".py")])
def test_the_readmes_first_chat_is_answered(node: Node, tmp_path: Path, language: str, fence: str, suffix: str) -> None:
    chapter = README.read_text(encoding="utf-8").partition("## The first chat")[2]
    found = re.search(rf"```{fence}\n(.*?)```", chapter, re.DOTALL)
    assert found is not None, f"the README has no {fence} below its first chat"
    assert "http://127.0.0.1:9337" in found[1]
    if language == "curl" and not shutil.which("curl"):
        pytest.skip("no curl")
    written = tmp_path / f"readme{suffix}"
    written.write_text(found[1], encoding="utf-8")
    assert verdict(Snippet(language, written), node.api, tmp_path, command(language), environment()) == ""


def test_a_snippet_that_is_refused_is_told(node: Node, tmp_path: Path) -> None:
    written = tmp_path / "wrong.py"
    written.write_text(
        "from openai import OpenAI\n\nOpenAI(base_url='http://127.0.0.1:9337/v2', api_key='x').models.list()\n"
    )
    said = verdict(Snippet("python", written), node.api, tmp_path, command("python"), environment())
    assert said.startswith("status 1: ")
    assert "NotFoundError" in said


LIGHT = (
    "chat:",
    "schema: parse",
    "tools: one by name",
    "tools: a call in a stream",
    "embeddings",
    "models:",
    "errors: 40",
)


def test_the_official_sdk_is_given_what_its_types_say(node: Node, tmp_path: Path) -> None:
    target = Target(node.api, node.api, f"{MODEL}:q4_1")
    told = list(run([sys.executable, "-m", "clientele.checks", "openai", *LIGHT], target, tmp_path))
    assert len(told) >= 20
    assert [(one.check, one.said) for one in told if one.outcome != PASSED and "401" not in one.check] == []
