"""The story of a mesh: join, use, fail over, reconcile. Each chapter says what it found, and whether that is right."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from rich.console import Console
from rich.table import Table

from benchmark.nodes import Node, NodeError, ended, model_path

QUESTION = "Give me three short tips for a good night's sleep."
STORY = "Write a long story about a lighthouse keeper and the sea."
SEEN_S = 5.0
GONE_S = 15.0
HANG_S = 10.0


class Answer(NamedTuple):
    """What a chat gave: text, the route's header, who answered, seconds to the first text, usage, how it ended."""

    status: int
    text: str
    route: str
    node: str
    first_s: float
    usage: dict[str, Any]
    finish: str
    error: dict[str, Any]


class Teller:
    """Says what happens, and counts what is not as it should be."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.faults = 0
        self._began = time.monotonic()

    def chapter(self, title: str) -> None:
        """A headline."""
        self.console.print(f"\n[bold]{title}[/bold]")

    def say(self, text: str) -> None:
        """A line, with the time since the beginning."""
        self.console.print(f"  {time.monotonic() - self._began:6.1f} s  {text}")

    def check(self, what: str, so: bool) -> None:
        """A claim."""
        self.faults += not so
        self.say(f"{'[green]so  [/green]' if so else '[red]NOT SO[/red]'} {what}")

    def until(self, what: str, fact: Callable[[], bool], within_s: float) -> None:
        """Wait for a fact, and claim that it came in time."""
        began = time.monotonic()
        while not fact() and time.monotonic() < began + 4 * within_s:
            time.sleep(0.05)
        took = time.monotonic() - began
        self.check(f"{what}: after {took:.1f} s (at most {within_s:g})", fact() and took <= within_s)


def chat(
    node: Node, text: str, *, tokens: int = 64, temperature: float = 0.0, at_first: Callable[[], None] | None = None
) -> Answer:
    """One streamed chat through a node's API; ``at_first`` is called at its first text."""
    body = {
        "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": temperature,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    began, first, said, finish = time.monotonic(), 0.0, "", ""
    usage: dict[str, Any] = {}
    error: dict[str, Any] = {}
    with (
        httpx2.Client(trust_env=False, timeout=120) as client,
        client.stream("POST", f"{node.api}/chat/completions", json=body) as answer,
    ):
        if answer.status_code != 200:
            answer.read()
            found = dict(answer.json()["error"]) | {"retry_after": answer.headers.get("retry-after")}
            return Answer(answer.status_code, "", "", "", 0.0, {}, "", found)
        for line in answer.iter_lines():
            data = line.removeprefix("data: ")
            if not line.startswith("data: ") or data == "[DONE]":
                continue
            chunk = json.loads(data)
            error = chunk.get("error") or error
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                piece = choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
                if piece and not first:
                    first = time.monotonic() - began
                    if at_first is not None:
                        at_first()
                said += piece
        headers = answer.headers
    return Answer(
        200, said, headers.get("x-mesh-route", ""), headers.get("x-mesh-node", ""), first, usage, finish, error
    )


def tell(teller: Teller, folder: Path, model: Path) -> None:
    """The whole story."""
    serving = ("--model", str(model))
    a, d = Node("A", folder, *serving), Node("D", folder, *serving)
    b, c = Node("B", folder, "--client-only"), Node("C", folder, "--client-only")
    with ended([a, b, c, d]):
        meet(teller, a, b, c)
        use(teller, a, c)
        fail_over(teller, a, b, c, d)
        mid_stream(teller, c, d)
        reconcile(teller, a, c, d)


def meet(teller: Teller, a: Node, b: Node, c: Node) -> None:
    """A serves, B joins A, C knows only B."""
    teller.chapter("Join: A has a model, B joined A, C joins B and has never heard of A")
    teller.say(f"A is ready after {a.start('--open'):.1f} s, and lists {', '.join(a.models())}")
    teller.say(f"B is ready after {b.start('--join', a.address):.1f} s")
    began = time.monotonic()
    teller.say(f"C is ready after {c.start('--join', b.address):.1f} s")
    while not c.models() and time.monotonic() < began + 20:
        time.sleep(0.02)
    took = time.monotonic() - began
    teller.check(f"C lists A's model {took:.1f} s after C was started (at most {SEEN_S:g})", took <= SEEN_S)
    listed = c.get("/v1/models")["data"]
    teller.check("owned by the mesh, with its context length", bool(listed) and listed[0]["owned_by"] == "mesh")
    teller.say(f"{listed[0]['id']}, context {listed[0]['context_length']}, {len(listed[0]['providers'])} provider")


def use(teller: Teller, a: Node, c: Node) -> None:
    """C asks, A answers."""
    teller.chapter("Use: C asks, A answers, and the answer is A's own")
    chat(c, QUESTION, tokens=1)
    answer, direct = chat(c, QUESTION), chat(a, QUESTION)
    teller.say(f'C got "{answer.text.strip()[:70]}"')
    teller.say(f"{answer.route}; first text after {1000 * answer.first_s:.0f} ms, at A {1000 * direct.first_s:.0f}")
    teller.check("it came from A", answer.node == a.peer)
    same = (answer.finish, answer.usage) == (direct.finish, direct.usage)
    teller.check(f"it ended as at A ({answer.finish}), with the same usage", bool(answer.finish) and same)
    teller.check("it is word for word what A says at home", answer.text == direct.text)


def fail_over(teller: Teller, a: Node, b: Node, c: Node, d: Node) -> None:
    """A second provider; the first hangs, then dies; the client sees nothing but a header."""
    teller.chapter("Fail over: D serves the same model; then A hangs, and then A is killed")
    teller.say(f"D is ready after {d.start('--join', b.address):.1f} s")
    teller.until("C sees two providers", lambda: list(c.models().values()) == [2], SEEN_S)
    a.suspend()
    answers = [chat(c, QUESTION, tokens=8) for _ in range(3)]
    slowest = max(answer.first_s for answer in answers)
    teller.say(f"A is stopped dead; three chats: {', '.join(answer.route for answer in answers)}")
    teller.check(
        f"all were answered by D, the slowest after {slowest:.1f} s (a hang is {HANG_S:g} s of silence)",
        all(answer.status == 200 and answer.node == d.peer for answer in answers) and slowest < HANG_S + 3,
    )
    a.resume()
    teller.until("A, alive again, is seen again", lambda: list(c.models().values()) == [2], 60.0)
    a.kill()
    answer = chat(c, QUESTION, tokens=8)
    teller.check(f"A was killed; the next chat was answered by D ({answer.route})", answer.node == d.peer)
    teller.until("A has left C's list", lambda: list(c.models().values()) == [1], GONE_S)


def mid_stream(teller: Teller, c: Node, d: Node) -> None:
    """The last provider dies while it streams."""
    teller.chapter("The end of the last provider: an error that says so, never a silent stop")
    answer = chat(c, STORY, tokens=400, at_first=d.kill)
    teller.say(f"C got {len(answer.text)} characters, then: {answer.error.get('message', '')}")
    teller.check(
        "the stream ended with a typed error", answer.error.get("code") in ("peer_unreachable", "stream_reset")
    )
    refused = chat(c, QUESTION)
    teller.say(f"HTTP {refused.status}: {refused.error.get('message', '')[:160]}")
    teller.check(
        "the next request is refused with 503 and Retry-After while the model is known, with 404 once it is not",
        refused.status == 404 or (refused.status == 503 and bool(refused.error.get("retry_after"))),
    )
    teller.until("D has left C's list", lambda: not c.models(), GONE_S)


def reconcile(teller: Teller, a: Node, c: Node, d: Node) -> None:
    """Both sides' books, after two kills."""
    teller.chapter("The books: what C spent is what A and D earned, to the micro-credit, though both were killed")
    a.start("--open")
    d.start("--open")
    for node in (a, d):
        c.command("join", node.address)
    teller.until("C sees both again", lambda: list(c.models().values()) == [2], SEEN_S)
    for _ in range(4):  # a session is opened by asking; its greeting swaps the newest receipts
        chat(c, QUESTION, tokens=4)
    books = {node.name: node for node in (a, c, d)}
    agreed = _Agreement(books)
    teller.until("both sides agree, and all is confirmed", agreed, 10.0)
    table = Table("node", "earned µc", "spent µc", "unconfirmed µc", "channels")
    for name, book in agreed.read().items():
        unconfirmed = book["earned_unconfirmed"] + book["spent_unconfirmed"]
        table.add_row(name, *map(str, (book["earned"], book["spent"], unconfirmed, len(book["channels"]))))
    teller.console.print(table)


class _Agreement:
    """Whether C's channels and those of the providers say the same."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self._nodes = nodes

    def read(self) -> dict[str, dict[str, Any]]:
        return {name: node.command("credits") for name, node in self._nodes.items()}

    def __call__(self) -> bool:
        books = self.read()
        spent = sorted((each["chan"], each["total_uc"], each["confirmed_uc"]) for each in books["C"]["channels"])
        earned = sorted(
            (each["chan"], each["total_uc"], each["confirmed_uc"])
            for name in ("A", "D")
            for each in books[name]["channels"]
            if each["role"] == "provider"
        )
        whole = all(total == confirmed for _, total, confirmed in spent)
        balanced = books["C"]["spent"] == books["A"]["earned"] + books["D"]["earned"]
        return spent == earned and whole and balanced


def main() -> None:
    """Tell it; exits 1 when anything is not so."""
    parser = argparse.ArgumentParser(prog="demo_mesh", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="GGUF file to serve [SmolLM2, as the tests have it]")
    given = parser.parse_args()
    teller = Teller()
    try:
        with tempfile.TemporaryDirectory(prefix="meshnode-demo-") as folder:
            tell(teller, Path(folder), model_path(given.model))
    except NodeError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    teller.console.print(f"\n{'All of it is so.' if not teller.faults else f'{teller.faults} claims are not so.'}")
    sys.exit(1 if teller.faults else 0)
