"""Stands between an agent and a node, and adds to each request what a model of noise cannot bring: what to say.

While the conversation has no tool result yet, one call is forced and its arguments are narrowed to those wanted, by the
dialect's own ``tool_choice`` and the tool's own schema; afterwards the last words are forced by a schema of the answer.
All else goes through as it came, both ways.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

LAST_WORDS: Final = "The task is done."
MOST_TOKENS: Final = 400
PIECE: Final = 65536
PATIENCE_S: Final = 300.0
HOP: Final = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})
Body = dict[str, Any]


@dataclass
class Script:
    """What the model is made to say: a call of ``tool`` with ``arguments`` (none where empty), then the last words."""

    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    requests: list[Body] = field(default_factory=list)
    """What the agent sent, as it came."""
    statuses: list[int] = field(default_factory=list)

    def results(self) -> list[str]:
        """What the agent's tool gave, by the last request."""
        return tool_results(self.requests[-1]) if self.requests else []


def tool_results(body: Body) -> list[str]:
    """The tool results in a request of either dialect."""
    found = []
    for item in body.get("input", ()) if isinstance(body.get("input"), list) else ():
        if item.get("type") in {"function_call_output", "custom_tool_call_output"}:
            found.append(json.dumps(item.get("output")))
    for message in body.get("messages", ()):
        blocks = message["content"] if isinstance(message.get("content"), list) else ()
        found += [json.dumps(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
    return found


def directed(body: Body, script: Script) -> Body:
    """The request with the next line of the script in it."""
    anthropic = "max_tokens" in body
    tools: list[Body] = body.get("tools") or []
    if script.tool and not tool_results(body) and any(tool.get("name") == script.tool for tool in tools):
        return body | _call(tools, script, anthropic=anthropic) | _short(body, anthropic=anthropic)
    schema = {
        "type": "object",
        "properties": {"said": {"const": LAST_WORDS}},
        "required": ["said"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "schema": schema}
    if anthropic:
        words: Body = {"output_config": {**(body.get("output_config") or {}), "format": form}}
        return body | words | _short(body, anthropic=True) | ({"tool_choice": {"type": "none"}} if tools else {})
    text = {**(body.get("text") or {}), "format": form | {"name": "last", "strict": True}}
    return body | {"text": text, "tool_choice": "none"} | _short(body, anthropic=False)


def _short(body: Body, *, anthropic: bool) -> Body:
    """Fewer tokens than an agent allows, and no thinking: noise has no end of its own."""
    if anthropic:
        return {"max_tokens": min(MOST_TOKENS, body["max_tokens"]), "thinking": {"type": "disabled"}}
    return {"max_output_tokens": MOST_TOKENS}


def _call(tools: list[Body], script: Script, *, anthropic: bool) -> Body:
    """The tools with the wanted one narrowed, and the choice of it."""
    key = "input_schema" if anthropic else "parameters"
    narrow = {
        "type": "object",
        "properties": {name: {"const": value} for name, value in script.arguments.items()},
        "required": list(script.arguments),
        "additionalProperties": False,
    }
    narrowed = [{**tool, key: narrow} if tool.get("name") == script.tool else tool for tool in tools]
    if anthropic:
        choice: Body = {"type": "tool", "name": script.tool, "disable_parallel_tool_use": True}
        return {"tools": narrowed, "tool_choice": choice}
    return {
        "tools": narrowed,
        "tool_choice": {"type": "function", "name": script.tool},
        "parallel_tool_calls": False,
    }


@contextlib.contextmanager
def directing(url: str, script: Script) -> Iterator[str]:
    """A director of the node at ``url`` on a free loopback port; gives its own URL."""
    host = url.removeprefix("http://")

    class Handler(_Handler):
        node, plan = host, script

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    node: str
    plan: Script

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing is said of a request."""

    def do_GET(self) -> None:
        """Passed on."""
        self._pass_on(None)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """A generation gets its line; all else is passed on."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        if path in {"/v1/messages", "/v1/responses"}:
            body: Body = json.loads(raw)
            self.plan.requests.append(body)
            raw = json.dumps(directed(body, self.plan)).encode()
        self._pass_on(raw)

    def _pass_on(self, body: bytes | None) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        node = http.client.HTTPConnection(self.node, timeout=PATIENCE_S)
        try:
            node.request(self.command, self.path, body, headers)
            answer = node.getresponse()
            if body is not None:
                self.plan.statuses.append(answer.status)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP:
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            while piece := answer.read1(PIECE):
                self.wfile.write(piece)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            node.close()
