"""Claude Code and Codex, headless: an answer, a task with a tool call, and a context that is too short for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clientele import environments
from clientele.agents.director import LAST_WORDS, Script, directing
from clientele.environments import Unavailable
from clientele.outcomes import ALONE, FAILED, PASSED, Outcome
from clientele.pasted import SNIPPETS, pointed

PATIENCE_S: Final = 300.0
MADE: Final = "made by a tool"
COMMAND: Final = f"echo {MADE} > made.txt"
FEWEST_TOKENS: Final = 8192
"""What the agents send is longer than SmolLM2's context."""


@dataclass(frozen=True)
class Agent:
    """How one is started: its program, its flags, where its configuration lies, and its tool that runs a command."""

    name: str
    program: Callable[[Path], list[str]]
    flags: tuple[str, ...]
    configuration: str
    home: str
    tool: str
    argument: str
    too_long: str
    """What it prints where the context is too short."""


def _claude(modules: Path) -> list[str]:
    """The program for this machine, which its package's own set-up step would only link to."""
    found = sorted((modules / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        raise Unavailable("Claude Code has no program for this machine")
    return [str(found[0])]


def _codex(modules: Path) -> list[str]:
    return ["node", str(modules / "@openai" / "codex" / "bin" / "codex.js")]


CLAUDE: Final = Agent(
    "Claude Code", _claude, ("-p", "Write the file made.txt.", "--output-format", "json", "--allowedTools", "Bash"),
    "claude-settings.json", ".claude/settings.json", "Bash", "command", "Prompt is too long",
)  # fmt: skip
CODEX: Final = Agent(
    "Codex", _codex,
    ("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "Write made.txt."),
    "codex-config.toml", ".codex/config.toml", "exec_command", "cmd",
    "ran out of room in the model's context window",
)  # fmt: skip
AGENTS: Final = (CLAUDE, CODEX)


@dataclass(frozen=True)
class Ended:
    """An agent that has ended."""

    status: int
    out: str
    folder: Path


def ran(agent: Agent, url: str, model: str, folder: Path) -> Ended:
    """Run an agent in an empty folder with a home of its own, in which its configuration names the node at ``url``."""
    modules = environments.npm("agents") / "node_modules"
    home, work = folder / "home", folder / "work"
    for each in (home, work):
        shutil.rmtree(each, ignore_errors=True)
    placed = home / agent.home
    placed.parent.mkdir(parents=True)
    work.mkdir()
    written = (SNIPPETS / "agents" / agent.configuration).read_text(encoding="utf-8")
    placed.write_text(pointed(written, url, model), encoding="utf-8")
    node = shutil.which("node")
    path = f"{Path(node).parent if node else ''}:/usr/local/bin:/usr/bin:/bin"
    # Nothing else of this environment: it may hold settings, or keys, of an agent that somebody uses here.
    done = subprocess.run(
        [*agent.program(modules), *agent.flags], cwd=work, env={"HOME": str(home), "PATH": path, **ALONE},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, work)


def answers(agent: Agent, url: str, model: str, folder: Path) -> str:
    """Why the agent did not answer, or nothing."""
    script = Script()
    with directing(url, script) as director:
        done = ran(agent, director, model, folder)
    return done_well(done, script)


def done_well(done: Ended, script: Script) -> str:
    """Why a directed run did not end as it should have, or nothing."""
    if set(script.statuses) != {200}:
        return f"statuses {script.statuses}: {_end(done)}"
    if done.status or LAST_WORDS not in done.out:
        return f"status {done.status}: {_end(done)}"
    return ""


def completes(agent: Agent, url: str, model: str, folder: Path) -> str:
    """Why the agent did not do its task by a call of its tool, or nothing."""
    script = Script(agent.tool, {agent.argument: COMMAND})
    with directing(url, script) as director:
        done = ran(agent, director, model, folder)
    if wrong := done_well(done, script):
        return wrong
    if not script.results():
        return "no tool result was sent back"
    made = done.folder / "made.txt"
    if not made.is_file() or made.read_text().strip() != MADE:
        return f"the tool did not run: {script.results()[:1]}"
    return ""


def too_long(agent: Agent, url: str, model: str, folder: Path) -> str:
    """Why the agent did not understand that the model's context is too short, or nothing. Nobody directs here."""
    done = ran(agent, url, model, folder)
    if done.status == 0 or agent.too_long.lower() not in done.out.lower():
        return f"status {done.status}: {_end(done)}"
    return ""


def _end(done: Ended) -> str:
    return " ".join(done.out.split())[-300:]


Check = Callable[[Agent, str, str, Path], str]
ON_LONG: Final[dict[str, Check]] = {
    "answers (said by a grammar)": answers,
    "completes a task with a tool call (forced by a grammar)": completes,
}
ON_SMALL: Final[dict[str, Check]] = {"says that SmolLM2's context is too short": too_long}


def outcomes(
    agent: Agent, checks: dict[str, Check], url: str, model: str, folder: Path, wanted: Sequence[str] = ()
) -> Iterator[Outcome]:
    """Carry out ``checks``. Raises Unavailable where the agent cannot be set up."""
    for name, check in checks.items():
        if wanted and not any(word in name for word in wanted):
            continue
        began = time.monotonic()
        try:
            wrong = check(agent, url, model, folder)
        except subprocess.TimeoutExpired:
            wrong = f"not done within {PATIENCE_S:.0f} s"
        except json.JSONDecodeError as error:
            wrong = f"not JSON: {error}"
        yield Outcome(name, FAILED if wrong else PASSED, wrong, round(time.monotonic() - began, 2))
