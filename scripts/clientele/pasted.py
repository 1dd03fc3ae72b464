"""What users would paste: the files in ``snippets/``, run as they stand but for the port and the model's name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SNIPPETS: Final = Path(__file__).with_name("snippets")
WRITTEN_URL: Final = "http://127.0.0.1:9337"
WRITTEN_MODEL: Final = "smollm2-135m-instruct"
PATIENCE_S: Final = 120.0
SUFFIXES: Final = {"curl": ".sh", "python": ".py", "javascript": ".mjs"}
SHOWN: Final = {
    "curl/chat": r'"finish_reason": ?"\w+"',
    "curl/stream_usage": r'"completion_tokens": ?\d+(.|\n)*data: \[DONE\]',
    "curl/embeddings": r'"embedding": ?\[-?[\d.]+(.|\n)*"index": ?1',
    "curl/responses": r'"type": ?"output_text"',
    "curl/messages": r'"stop_reason": ?"\w+"',
    "curl/tools": r'"role": ?"assistant"',
    "curl/fallback_models": r'"model": ?"smollm2-135m-instruct',
    "python/stream_usage": r"\d+ tokens in, \d+ out",
    "python/embeddings": r"0 \d+ \[.*\n1 \d+ \[",
    "python/responses": r"\w+(.|\n)*\n.*\w+",
    "python/messages": r"\d+ tokens out",
    "python/tools": r"called with (Paris|London|Rome)\n.*\w+",
    "python/fallback_models": r"smollm2-135m-instruct.* says: .*\w+",
    "javascript/stream_usage": r"\d+ tokens in, \d+ out",
    "javascript/embeddings": r"0 \d+\n1 \d+",
    "javascript/tools": r"called with (Paris|London|Rome)\n.*\w+",
    "javascript/fallback_models": r"smollm2-135m-instruct.* says: .*\w+",
}
"""What each prints, as a pattern; where nothing is said, some word."""


@dataclass(frozen=True)
class Snippet:
    """One file, by its language and name."""

    language: str
    path: Path

    @property
    def name(self) -> str:
        """``python/chat``."""
        return f"{self.language}/{self.path.stem}"


def snippets(language: str) -> Iterator[Snippet]:
    """Those of a language, by name."""
    for path in sorted((SNIPPETS / language).glob(f"*{SUFFIXES[language]}")):
        yield Snippet(language, path)


def pointed(text: str, url: str, model: str = WRITTEN_MODEL) -> str:
    """A snippet's text for the node at ``url``."""
    return text.replace(WRITTEN_URL, url).replace(WRITTEN_MODEL, model)


def command(language: str, python: str | Path = sys.executable) -> list[str]:
    """What runs a file of ``language``."""
    return {"curl": ["sh"], "python": [str(python)], "javascript": ["node"]}[language]


def verdict(snippet: Snippet, url: str, folder: Path, run: list[str], environment: Mapping[str, str]) -> str:
    """Why the snippet did not do what it is for, or nothing. ``folder`` is where its packages are found, if any."""
    if snippet.language == "curl" and not shutil.which("curl"):
        return "no curl"
    placed = folder / f"snippet_{snippet.path.name}"
    placed.write_text(pointed(snippet.path.read_text(encoding="utf-8"), url), encoding="utf-8")
    try:
        done = subprocess.run(
            [*run, str(placed)], cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done within {PATIENCE_S:.0f} s"
    finally:
        placed.unlink()
    if done.returncode:
        return f"status {done.returncode}: {' '.join(done.stderr.split())[-300:]}"
    if not re.search(SHOWN.get(snippet.name, r"\w+"), done.stdout):
        return f"printed {' '.join(done.stdout.split())[:300]!r}"
    return ""
