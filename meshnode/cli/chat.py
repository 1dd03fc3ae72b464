"""``meshnode chat``: talk to a model, line by line or through a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import click

from meshnode.cli.options import home_option, json_option
from meshnode.cli.show import emit_json, printable
from meshnode.client import Client, open_client
from meshnode.domain import Message, Role, TextPart
from meshnode.errors import ServingError

PROMPT = ">>> "
MORE = "... "
FENCE = '"""'
HELP = f"""\
/bye     leave (also Ctrl-D)
/clear   forget the conversation
/?       this help
{FENCE}      begins and ends a message of several lines
Ctrl-C   stops the answer; at the prompt it leaves"""


@click.command()
@click.argument("model", required=False)
@click.argument("words", metavar="[PROMPT]...", nargs=-1)
@click.option("--system", help="Instructions that stand before the conversation.")
@home_option
@json_option
def chat(model: str | None, words: tuple[str, ...], system: str | None, home: Path, as_json: bool) -> None:
    """Talk to a model.

    MODEL is the node's default if none is named. With a PROMPT, or with text on stdin, it answers once and ends.
    """
    with open_client(home) as node:
        talk = Conversation(node, model, system)
        if words or not sys.stdin.isatty():
            piped = "" if sys.stdin.isatty() else sys.stdin.read()
            question = "\n\n".join(part for part in (" ".join(words), piped.strip()) if part)
            if not question:
                raise click.UsageError("There is nothing to ask: give a PROMPT or write it to stdin.")
            answer_once(talk, question, as_json)
        else:
            node.status()  # says at once when there is no node, not after the first question
            converse(talk, as_json)


class Conversation:
    """The turns so far with one model."""

    def __init__(self, node: Client, model: str | None, system: str | None) -> None:
        self._node = node
        self.model = model
        self._system = system
        self._turns: list[Message] = []
        self.forget()

    def forget(self) -> None:
        """Begin anew, with the system message if there is one."""
        self._turns = [_message(Role.SYSTEM, self._system)] if self._system else []

    def ask(self, question: str) -> Generator[str, None, None]:
        """The answer, piece by piece. What was said before the reader closed this belongs to the conversation."""
        self._turns.append(_message(Role.USER, question))
        said: list[str] = []
        try:
            with contextlib.closing(self._node.chat(self._turns, model=self.model)) as pieces:
                for piece in pieces:
                    said.append(piece)
                    yield piece
        finally:
            if said:
                self._turns.append(_message(Role.ASSISTANT, "".join(said)))
            else:
                self._turns.pop()


def _message(role: Role, text: str) -> Message:
    return Message(role=role, parts=(TextPart(text),))


def answer_once(talk: Conversation, question: str, as_json: bool) -> None:
    """Print one answer; with ``as_json`` as an object when it is whole."""
    with contextlib.closing(talk.ask(question)) as pieces:
        if as_json:
            emit_json({"model": talk.model or None, "content": "".join(pieces)})
            return
        for piece in pieces:
            click.echo(printable(piece), nl=False)
    click.echo()


def converse(talk: Conversation, as_json: bool, *, read: Callable[[str], str] = input) -> None:
    """Question and answer until ``/bye`` or the end of input. ``read`` shows a prompt and gives a line.

    Raises KeyboardInterrupt on Ctrl-C at the prompt.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (gives input() its line editing and history)
    click.echo(f"Talking to {talk.model or 'the default model'}. /? for help, /bye to leave.", err=True)
    while (question := _question(read)) is not None:
        match question.strip():
            case "":
                continue
            case "/bye" | "/exit" | "/quit":
                return
            case "/clear":
                talk.forget()
                click.echo("Forgotten.", err=True)
            case "/?" | "/help":
                click.echo(HELP, err=True)
            case _:
                _answer(talk, question, as_json)


def _answer(talk: Conversation, question: str, as_json: bool) -> None:
    try:
        answer_once(talk, question, as_json)
    except KeyboardInterrupt:
        click.echo("\n(stopped)", err=True)
    except ServingError as error:
        click.echo(f"meshnode: {printable(str(error))}", err=True)


def _question(read: Callable[[str], str]) -> str | None:
    try:
        line = read(PROMPT)
        if not line.startswith(FENCE):
            return line
        lines = [line.removeprefix(FENCE)]
        while not lines[-1].rstrip().endswith(FENCE):
            lines.append(read(MORE))
        lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
        return "\n".join(lines)
    except EOFError:
        click.echo(err=True)
        return None
