"""llama.cpp's grammars (GBNF), rewritten in the library's grammar text. Pure.

A GBNF grammar is about characters. The library has a lexer, which is greedy: of ``"a" "bc" | "ab" "d"`` it would never
find ``abc``. Each character or class therefore becomes a lexeme of its own, which leaves the lexer nothing to choose; a
longer literal stays whole only where nothing else in the grammar begins as it does. What a grammar may say is in
llama.cpp's ``grammars/README.md``; rules without an end are refused here, left recursion is no trouble.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from meshnode.engine.constrain.document import MAX_BYTES
from meshnode.engine.constrain.patterns import escaped
from meshnode.engine.constrain.refuse import not_held, too_complex, wrong

MAX_DEPTH = 50
"""Parentheses inside parentheses."""
MAX_NODES = 20_000
"""Characters, classes, names and groups."""
MAX_REPEAT = 2_000
"""Greatest number of a ``{m,n}``, also of those inside each other multiplied."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TOKEN = re.compile(r"<\[[0-9]{1,9}\]>|<[^<>\s\[\]]{1,100}>")
_COUNTS = re.compile(r"\{\s*([0-9]{1,9})\s*(?:(,)\s*([0-9]{1,9})?\s*)?\}")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\", "[": "[", "]": "]"}
_DIGITS = {"x": 2, "u": 4, "U": 8}
_BLANKS = re.compile(r"(?:[ \t]|#[^\r\n]*+)*+")
_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*+)*+")


class Chars(NamedTuple):
    """One of some characters, as ranges of code points; ``negated``: one of all others."""

    ranges: tuple[tuple[int, int], ...]
    negated: bool = False


class Text(NamedTuple):
    """A literal."""

    text: str


class Name(NamedTuple):
    """A rule by name."""

    name: str


class Token(NamedTuple):
    """One token of the vocabulary, by number or text."""

    text: str


class Repeat(NamedTuple):
    """An item so many times; no ``most``: without bound."""

    item: Node
    least: int
    most: int | None


class Choice(NamedTuple):
    """One of several sequences."""

    options: tuple[tuple[Node, ...], ...]


Node = Chars | Text | Name | Token | Repeat | Choice


def to_lark(source: str, what: str = "grammar") -> str:
    """The grammar in the library's text, beginning at rule ``start``. ``what`` names it in errors.

    Raises InvalidField for a grammar that is wrong, too large, or has a rule that no text ends;
    UnsupportedParameter for what is not held (``!`` before a token).
    """
    if len(source) > MAX_BYTES:
        raise too_complex(what, f"its source has more than {MAX_BYTES} bytes")
    if re.search("[\ud800-\udfff]", source):
        raise wrong(what, "half a surrogate pair is no character")
    rules = _Reader(source, what).rules()
    if "root" not in rules:
        raise wrong(what, "there is no rule root")
    used = _reachable(rules, what)
    _check_ends(used, what)
    names = {name: f"r{index}" for index, name in enumerate(used)}
    writer = _Writer(used, names)
    lines = [f"{names[name]}: {writer.choice(rule)}" for name, rule in used.items()]
    return "\n".join(["start: r0", *lines])


def _reachable(rules: dict[str, Choice], what: str) -> dict[str, Choice]:
    """The rules that ``root`` leads to, root first."""
    found = {"root": rules["root"]}
    waiting = ["root"]
    while waiting:
        above = waiting.pop()
        for node in _walk(rules[above]):
            if isinstance(node, Name) and node.name not in found:
                if node.name not in rules:
                    raise wrong(what, f"rule {above} names {node.name}, which is not defined")
                found[node.name] = rules[node.name]
                waiting.append(node.name)
    return found


def _walk(node: Node) -> Iterator[Node]:
    yield node
    inside = [node.item] if isinstance(node, Repeat) else []
    if isinstance(node, Choice):
        inside = [each for option in node.options for each in option]
    for each in inside:
        yield from _walk(each)


def _check_ends(rules: dict[str, Choice], what: str) -> None:
    """Raises InvalidField where some rule leads on for ever: no text would end it."""
    ending: set[str] = set()

    def ends(node: Node) -> bool:
        if isinstance(node, Name):
            return node.name in ending
        if isinstance(node, Repeat):
            return not node.least or ends(node.item)
        return not isinstance(node, Choice) or any(all(map(ends, option)) for option in node.options)

    while new := {name for name, rule in rules.items() if name not in ending and ends(rule)}:
        ending |= new
    for name in rules:
        if name not in ending:
            raise wrong(what, f"rule {name} never ends")


class _Writer:
    """Writes rules in the library's text."""

    def __init__(self, rules: dict[str, Choice], names: dict[str, str]) -> None:
        self._names = names
        nodes = [node for rule in rules.values() for node in _walk(rule)]
        self._classes = {node for node in nodes if isinstance(node, Chars)}
        texts = {node.text for node in nodes if isinstance(node, Text) and node.text}
        self._first = Counter(text[0] for text in texts)
        self._inner = {char for text in texts for char in text[1:]}

    def choice(self, rule: Choice) -> str:
        """Alternatives."""
        return " | ".join(" ".join(map(self._node, option)) or '""' for option in rule.options)

    def _node(self, node: Node) -> str:
        if isinstance(node, Name):
            return self._names[node.name]
        if isinstance(node, Token):
            return node.text
        if isinstance(node, Chars):
            return f"/{_class(node)}/"
        if isinstance(node, Text):
            return self._text(node.text)
        if isinstance(node, Repeat):
            return f"({self._node(node.item)}){_counts(node)}"
        return f"({self.choice(node)})"

    def _text(self, text: str) -> str:
        """A literal: whole where it alone begins with its first character, which nothing else can stand for."""
        if not text:
            return '""'
        whole = self._first[text[0]] == 1 and text[0] not in self._inner
        if whole and not any(_has(each, ord(text[0])) for each in self._classes):
            return f"/{escaped(text)}/"
        return "(" + " ".join(f"/{escaped(char)}/" for char in text) + ")"


def _has(chars: Chars, code: int) -> bool:
    return any(first <= code <= last for first, last in chars.ranges) is not chars.negated


def _class(chars: Chars) -> str:
    if not chars.ranges:
        return r"(?s:.)"
    inside = "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in chars.ranges)
    return f"[{'^' if chars.negated else ''}{inside}]"


def _counts(node: Repeat) -> str:
    short = {(0, None): "*", (1, None): "+", (0, 1): "?"}
    return short.get((node.least, node.most)) or f"{{{node.least},{'' if node.most is None else node.most}}}"


class _Reader:
    """Reads GBNF by recursive descent."""

    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        self._at = 0
        self._nodes = 0

    def rules(self) -> dict[str, Choice]:
        """Every rule by name."""
        found: dict[str, Choice] = {}
        self._skip(_LINES)
        while self._at < len(self._text):
            name = self._name()
            self._skip(_BLANKS)
            if not self._text.startswith("::=", self._at):
                raise self._wrong("::= was expected")
            self._at += 3
            self._skip(_LINES)
            if name in found:
                raise self._wrong(f"rule {name} is defined twice")
            found[name] = self._choice(0)
            if self._peek() not in ("", "\r", "\n"):
                raise self._wrong(f"{self._peek()!r} was not expected")
            self._skip(_LINES)
        return found

    def _choice(self, depth: int) -> Choice:
        if depth > MAX_DEPTH:
            raise too_complex(self._what, f"parentheses more than {MAX_DEPTH} deep")
        options = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._skip(_LINES)
            options.append(self._sequence(depth))
        return Choice(tuple(options))

    def _sequence(self, depth: int) -> tuple[Node, ...]:
        blanks = _LINES if depth else _BLANKS
        items: list[Node] = []
        while (char := self._peek()) and char not in "|)\r\n":
            self._nodes += 1
            if self._nodes > MAX_NODES:
                raise too_complex(self._what, f"more than {MAX_NODES} parts")
            item = self._item(char, depth)
            self._skip(blanks)
            while (repeat := self._repeat(item)) is not None:
                item = repeat
                self._skip(blanks)
            items.append(item)
        return tuple(items)

    def _item(self, char: str, depth: int) -> Node:
        if char == '"':
            return self._literal()
        if char == "[":
            return self._chars()
        if char == "(":
            return self._group(depth)
        if char == ".":
            self._at += 1
            return Chars(())
        if char == "!":
            raise not_held(f"{self._what}: ! at character {self._at}", "a token cannot be excluded")
        if token := _TOKEN.match(self._text, self._at):
            self._at = token.end()
            return Token(token[0])
        return Name(self._name())

    def _group(self, depth: int) -> Choice:
        self._at += 1
        self._skip(_LINES)
        inside = self._choice(depth + 1)
        if self._peek() != ")":
            raise self._wrong("a ) is missing")
        self._at += 1
        return inside

    def _repeat(self, item: Node) -> Repeat | None:
        mark = self._peek()
        if mark and mark in "*+?":
            self._at += 1
            return Repeat(item, int(mark == "+"), 1 if mark == "?" else None)
        counts = _COUNTS.match(self._text, self._at)
        if counts is None:
            return None
        least = int(counts[1])
        most = None if counts[2] and not counts[3] else int(counts[3] or least)
        if most is not None and most < least:
            raise self._wrong(f"{counts[0]} has its bounds the wrong way round")
        if (most or least) * _repeated(item) > MAX_REPEAT:
            raise too_complex(self._what, f"{counts[0]} at character {self._at}; {MAX_REPEAT} times are the most")
        self._at = counts.end()
        return Repeat(item, least, most)

    def _literal(self) -> Text:
        self._at += 1
        chars: list[str] = []
        while self._peek() != '"':
            chars.append(self._char())
        self._at += 1
        return Text("".join(chars))

    def _chars(self) -> Chars:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            first = last = ord(self._char())
            if self._peek() == "-" and self._peek(1) != "]":
                self._at += 1
                last = ord(self._char())
            if last < first:
                raise self._wrong("a class has a range that is none")
            ranges.append((first, last))
        self._at += 1
        if not ranges:
            raise self._wrong("a class [] is empty")
        return Chars(tuple(ranges), negated)

    def _char(self) -> str:
        """One character of a literal or class, escapes read."""
        char = self._peek()
        self._at += 1
        if not char:
            raise self._wrong("the grammar ends too early")
        if char != "\\":
            return char
        kind = self._peek()
        self._at += 1
        if kind in _DIGITS:
            digits = self._text[self._at : self._at + _DIGITS[kind]]
            self._at += len(digits)
            code = int(digits, 16) if re.fullmatch(f"[0-9A-Fa-f]{{{_DIGITS[kind]}}}", digits) else -1
            if not 0 <= code <= 0x10FFFF or 0xD800 <= code < 0xE000:
                raise self._wrong(f"\\{kind}{digits} names no character")
            return chr(code)
        if kind not in _ESCAPES:
            raise self._wrong(f"\\{kind} is no escape")
        return _ESCAPES[kind]

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._wrong("a name was expected")
        self._at = found.end()
        return found[0]

    def _skip(self, blanks: re.Pattern[str]) -> None:
        found = blanks.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _peek(self, ahead: int = 0) -> str:
        return self._text[self._at + ahead : self._at + ahead + 1]

    def _wrong(self, what: str) -> Exception:
        line = self._text.count("\n", 0, self._at) + 1
        return wrong(f"{self._what}, line {line}", what)


def _repeated(node: Node) -> int:
    """How often a node's inside is repeated at most, by the bounds that are written."""
    if isinstance(node, Repeat):
        return (node.most or node.least or 1) * _repeated(node.item)
    inside = [each for option in node.options for each in option] if isinstance(node, Choice) else []
    return max(map(_repeated, inside), default=1)
