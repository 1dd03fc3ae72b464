"""Replies for the parsers: recorded transcripts, ways to cut them, and a tokenizer for the grammars that force them."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import llguidance

from meshnode.domain import Tool
from meshnode.engine.replies.family import Family
from meshnode.engine.replies.pieces import CallArguments, CallBegan, Piece, Said, coalesced
from meshnode.engine.replies.reading import Parser

GOLDEN = Path(__file__).parents[1] / "golden" / "replies"
TOOLS: dict[str, Any] = json.loads((GOLDEN / "tools.json").read_text(encoding="utf-8"))


def offered(*names: str, strict: bool = False) -> list[Tool]:
    """The tools of the transcripts, or some of them."""
    chosen = names or tuple(TOOLS)
    return [Tool(name=name, parameters=json.dumps(TOOLS[name]), strict=strict) for name in chosen]


def golden() -> list[tuple[str, dict[str, Any]]]:
    """Family and transcript of everything that was recorded."""
    files = sorted(path for path in GOLDEN.glob("*.json") if path.name != "tools.json")
    read = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return [(each["family"], reply) for each in read for reply in each["replies"]]


def parser_of(family: Family, reply: dict[str, Any]) -> Parser:
    """The parser a transcript is for."""
    return family.parser(
        tools=offered() if reply.get("tools") is None else [],
        prompt_tail=reply.get("prompt_tail", ""),
        parallel=reply.get("parallel", True),
    )


def fed(parser: Parser, texts: Iterable[str]) -> list[Piece]:
    """All that comes out."""
    pieces: list[Piece] = []
    for text in texts:
        pieces += parser.feed(text)
    return coalesced(pieces + parser.finish())


def read(family: Family, raw: str, *tools: str, tail: str = "", parallel: bool = True) -> list[Piece]:
    """What a whole reply is."""
    return fed(family.parser(tools=offered(*tools), prompt_tail=tail, parallel=parallel), [raw])


def cut(text: str, places: Sequence[int]) -> list[str]:
    """``text`` cut at the given places (modulo its length)."""
    edges = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


def plain(pieces: Sequence[Piece]) -> list[list[str]]:
    """As the transcripts have it."""
    out: list[list[str]] = []
    for piece in pieces:
        if isinstance(piece, CallBegan):
            out.append(["call", piece.id, piece.name])
        elif isinstance(piece, CallArguments):
            out.append(["arguments", piece.text])
        else:
            out.append(["said" if isinstance(piece, Said) else "thought", piece.text])
    return out


def arguments(pieces: Iterable[Piece]) -> dict[int, str]:
    """The arguments of each call."""
    found: dict[int, str] = {}
    for piece in pieces:
        if isinstance(piece, CallArguments):
            found[piece.index] = found.get(piece.index, "") + piece.text
    return found


class Bytes:
    """A tokenizer of bytes, and of ``control`` tokens after them, as llguidance wants it."""

    eos_token_id = 256
    bos_token_id = None

    def __init__(self, control: Sequence[str] = ()) -> None:
        self.control = {text: 257 + number for number, text in enumerate(control)}
        self.tokens = [bytes([byte]) for byte in range(256)] + [b"<eos>"] + [text.encode() for text in control]
        self.special_token_ids = [256, *self.control.values()]
        self._any = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)")

    def __call__(self, text: str | bytes) -> list[int]:
        """Tokens of plain text."""
        return list(text.encode() if isinstance(text, str) else text)

    def tokens_of(self, text: str) -> list[int]:
        """Tokens of a reply, control tokens among them."""
        out: list[int] = []
        at = 0
        for found in self._any.finditer(text):
            out += [*text[at : found.start()].encode(), self.control[found.group()]]
            at = found.end()
        return out + list(text[at:].encode())


def accepts(grammar: str, text: str, tokenizer: Bytes) -> bool:
    """Whether a whole reply is of a grammar; fails if the grammar is none."""
    wrapped = llguidance.LLTokenizer(llguidance.TokenizerWrapper(tokenizer))
    matcher = llguidance.LLMatcher(wrapped, grammar, log_level=0)
    assert not matcher.is_error(), f"{matcher.get_error()}\n{grammar}"
    tokens = tokenizer.tokens_of(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def walk(grammar: str, tokenizer: Bytes, rng: random.Random, most: int = 600) -> tuple[str, bool]:
    """What a model that knows nothing says under a grammar, and whether it came to an end: the worst of all models."""
    wrapped = llguidance.LLTokenizer(llguidance.TokenizerWrapper(tokenizer))
    matcher = llguidance.LLMatcher(wrapped, grammar, log_level=0)
    assert not matcher.is_error(), f"{matcher.get_error()}\n{grammar}"
    said = b""
    for _ in range(most):
        allowed = [token for token, bias in enumerate(matcher.compute_logit_bias()) if bias]
        if tokenizer.eos_token_id in allowed and rng.random() < 0.5:
            return said.decode("utf-8", "replace"), True
        inviting = [token for token in allowed if token > 256 or chr(token) in '"\n</}'] if rng.random() < 0.4 else []
        plain_ones = [token for token in allowed if token > 256 or 32 <= token < 127 or token == 10]
        token = rng.choice(inviting or plain_ones or [each for each in allowed if each != 256] or allowed)
        if token == tokenizer.eos_token_id:
            return said.decode("utf-8", "replace"), True
        said += tokenizer.tokens[token]
        assert matcher.consume_token(token)
    return said.decode("utf-8", "replace"), False
