"""Constraints in tests: a vocabulary of bytes, texts led through a matcher, and the public JSON-Schema test suite."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshnode.domain import Constraint, ConstraintKind
from meshnode.engine.constrain.matcher import Constrainer, Matcher, Vocabulary
from meshnode.errors import RequestError

EOS, EOT, MARK = 256, 257, 258
_PIECES = [*(bytes([byte]) for byte in range(256)), b"<eos>", b"<eot>", b"[TOOL]", b"ab", b'{"', b'":', b'", "', b"tr"]
BYTES = Vocabulary(
    n_vocab=len(_PIECES),
    piece=lambda token, special: _PIECES[token] if special or token not in (EOS, EOT, MARK) else b"",
    ends=frozenset({EOS, EOT}),
    eos=EOS,
    is_control=lambda token: token in (EOS, EOT, MARK),
)
"""Every byte, a few longer pieces, two end tokens and another control token."""

SUITE = "jsonschema-4.26.0"
"""The source package that has the JSON-Schema test suite."""


def constraint(kind: ConstraintKind, source: Any, *, strict: bool = False) -> Constraint:
    """A constraint; a source that is no text is written as JSON."""
    text = source if isinstance(source, str) else json.dumps(source)
    return Constraint(kind=kind, source=text, strict=strict)


def schema(source: Any) -> Constraint:
    """The constraint of a JSON schema."""
    return constraint(ConstraintKind.JSON_SCHEMA, source)


def refusal(constrainer: Constrainer, asked: Constraint) -> str:
    """The message with which a constraint is refused; fails where it is held."""
    with pytest.raises(RequestError) as caught:
        constrainer.compile(asked)
    assert caught.value.param == "response_format"
    return caught.value.message


def complaint(constrainer: Constrainer, asked: Constraint) -> str:
    """The message with which a constraint is refused; empty where it is held."""
    try:
        constrainer.compile(asked)
    except RequestError as error:
        return error.message
    return ""


def leads(matcher: Matcher, text: str | bytes) -> bool:
    """Whether the text can be written byte by byte, from where the matcher stands; it stays there."""
    there = matcher.fork()
    for byte in text.encode() if isinstance(text, str) else text:
        if not there.mask()[byte]:
            return False
        there.accept(byte)
    return True


def fits(matcher: Matcher, text: str | bytes) -> bool:
    """Whether the text can be written byte by byte and end there."""
    there = matcher.fork()
    for byte in text.encode() if isinstance(text, str) else text:
        if not there.mask()[byte]:
            return False
        there.accept(byte)
    assert there.may_end == bool(there.mask()[EOS]) == bool(there.mask()[EOT])
    return there.may_end


def written(matcher: Matcher, seed: int, *, most: int = 2_000) -> str | None:
    """A random text under the constraint, closing what is open when it can; None where it does not end in time."""
    there, draw, tokens = matcher.fork(), random.Random(seed), list[int]()
    for _ in range(most):
        if there.ended:
            break
        allowed = np.flatnonzero(there.mask()).tolist()
        closing = [token for token in allowed if token in (EOS, EOT) or _PIECES[token] in (b'"', b"}", b"]")]
        token = draw.choice(closing if closing and draw.random() < 0.4 else _plain(allowed, draw))
        if token in (EOS, EOT):
            break
        there.accept(token)
        tokens.append(token)
    return b"".join(_PIECES[token] for token in tokens).decode() if there.may_end else None


def _plain(allowed: list[int], draw: random.Random) -> list[int]:
    """Mostly printable tokens, which make short characters."""
    plain = [token for token in allowed if 32 <= token < 127 or token > MARK]
    return plain if plain and draw.random() < 0.9 else allowed


def orders(value: Any) -> Iterator[Any]:
    """The value with its objects' properties in every order, as far as there are not too many."""
    if isinstance(value, dict):
        inside = [[(name, each) for each in orders(item)] for name, item in value.items()]
        for chosen in itertools.islice(itertools.product(*inside), 24):
            yield from map(dict, itertools.islice(itertools.permutations(chosen), 24))
    elif isinstance(value, list):
        yield from map(list, itertools.islice(itertools.product(*map(orders, value)), 24))
    else:
        yield value


def suite() -> Iterator[tuple[str, dict[str, Any]]]:
    """File name and case of the draft 2020-12 suite; skips the test, saying why, where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "meshnode" / "jsonschema"
    package = cache / f"{SUITE}.tar.gz"
    if not package.is_file():
        name, _, version = SUITE.rpartition("-")
        fetch = ["download", "--quiet", "--no-deps", "--no-binary", name, "--dest", str(cache), f"{name}=={version}"]
        done = subprocess.run([sys.executable, "-m", "pip", *fetch], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no {package.name}, which has the JSON-Schema test suite, and pip cannot fetch it")
    with tarfile.open(package) as opened:
        for member in opened.getmembers():
            folder, _, file = member.name.partition("/json/tests/draft2020-12/")
            content = opened.extractfile(member) if file.endswith(".json") and folder == SUITE else None
            if content is not None and (not file.startswith("optional/") or file.startswith("optional/format/")):
                for case in json.load(content):
                    yield file, case
