"""The command ``meshnode``, and how its errors are shown."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from meshnode import __version__
from meshnode.causes import leaves
from meshnode.cli.chat import chat
from meshnode.cli.doctor import doctor
from meshnode.cli.history import history
from meshnode.cli.mesh import join, leave, peers, serve, show_credits, unserve
from meshnode.cli.models import fit, models, pull, rm
from meshnode.cli.node import show_id, status, stop
from meshnode.cli.show import drop_output, one_line
from meshnode.cli.up import up
from meshnode.errors import DiskFull, MeshnodeError

CRASH_FILE: Final = "crash.log"
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells count it: 128 + SIGINT."""
BROKEN_PIPE: Final = 1
"""Exit code when the reader of our output left, as click has it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Run, lend and borrow open-weight language models, behind an OpenAI-compatible API."""


for _command in (
    up, status, models, fit, pull, rm, chat, history, peers, show_credits, join, leave, serve, unserve, show_id, stop,
    doctor,
):  # fmt: skip
    cli.add_command(_command)


def main() -> None:
    """Entry point: run the command line and leave with its exit code."""
    _open_standard_streams()
    status = run(sys.argv[1:])
    try:
        sys.stderr.flush()
    except OSError:  # a full disk behind it: Python would flush again at its exit, and make 120 of our status
        drop_output(sys.stderr)
    sys.exit(status)


def _open_standard_streams() -> None:
    """Put the null device where a shell closed a standard stream (``>&-``).

    Else the next file we open, perhaps the database, gets its number, and all that is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115  for good


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Errors are one line on stderr; none comes out as a traceback."""
    state: dict[str, object] = {}
    try:
        _check_text(arguments)
        result = cli.main(list(arguments), prog_name="meshnode", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        drop_output()
        return BROKEN_PIPE
    except (Exception, BaseExceptionGroup, KeyboardInterrupt, SystemExit) as error:
        return _failed(error, state)


def _check_text(arguments: Sequence[str]) -> None:
    """Names and paths travel as JSON, so what is no text goes nowhere. Raises click.UsageError."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = argument[:48].encode(errors="backslashreplace").decode()
            raise click.UsageError(f"'{shown}' is not UTF-8 text.") from None


def _failed(error: BaseException, state: dict[str, object]) -> int:
    found = list(leaves(error))
    interrupted = all(isinstance(leaf, KeyboardInterrupt | click.Abort) for leaf in found)
    if os.environ.get("MESHNODE_DEBUG") and not interrupted:
        sys.excepthook(type(error), error, error.__traceback__)
    for leaf in found:
        if isinstance(leaf, OSError) and leaf.errno in (errno.ENOSPC, errno.EDQUOT):
            drop_output()
            leaf = DiskFull("No space is left where this writes to.", hint="Free some space there.")
        if isinstance(leaf, MeshnodeError):
            _say(str(leaf))
            return leaf.exit_code
    if interrupted:
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    _say(f"internal error: {type(found[0]).__name__}. {_record_crash(error, state.get('home'))}")
    return 1


def _say(text: str) -> None:
    click.echo(f"meshnode: {one_line(text)}", err=True)


def _record_crash(error: BaseException, home: object) -> str:
    """Write down where the error passed, without its text, which may quote content; says where."""
    from meshnode.observe import describe  # here, as a command that ends well needs none of it

    entry = "\n".join([f"{datetime.now(UTC).isoformat()} meshnode {__version__}", *describe(error), "", ""])
    folders = [home] if isinstance(home, Path) else []
    for folder in (*folders, Path(tempfile.gettempdir())):
        path = folder / (CRASH_FILE if folder == home else f"meshnode-{os.getuid()}-{CRASH_FILE}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "a", encoding="utf-8") as file:
                file.write(entry)
        except OSError:
            continue
        return f"Please report it with {path} (it holds no content of requests)."
    return "Set MESHNODE_DEBUG=1 to see where."
