"""``python scripts/provision COMMAND [ARGUMENTS]``: what scripts/run, scripts/test and scripts/setup have in common.

Commands: ``run FLAGS`` sets up and becomes ``meshnode up FLAGS``; ``test ARGUMENTS`` sets up with the tests'
packages and model and becomes pytest; ``setup`` and ``setup --test`` only set up. ``--rebuild`` builds the engine anew.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

CHECKOUT = Path(__file__).resolve().parent.parent.parent
# Run as a folder, this file's own folder is first on the path: its modules would be found twice, under two names.
sys.path[:] = [str(CHECKOUT), str(CHECKOUT / "scripts"), *(p for p in sys.path if Path(p) != Path(__file__).parent)]

from provision import browser, chat_templates, model  # noqa: E402
from provision.faults import SetupFault  # noqa: E402
from provision.places import Places, find_places  # noqa: E402
from provision.screen import say  # noqa: E402
from provision.setup import prepare  # noqa: E402


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs one command; returns the exit status where it does not become another program."""
    command, flags = arguments[0], [each for each in arguments[1:] if each != "--rebuild"]
    again = len(flags) != len(arguments) - 1
    places = find_places(CHECKOUT, environ)
    if command == "run":
        prepare(places, "run", flags, environ, again=again)
        become(places, [str(places.program), "up", *flags], environ)
    testing = command == "test" or "--test" in flags
    prepare(places, "test" if testing else "run", [], environ, again=again)
    if testing:
        if not environ.get("MESHNODE_TEST_MODEL"):
            model.fetch(places, environ)
        chat_templates.fetch(places, environ)
        browser.provide(environ)
    if command == "test":
        become(places, [str(places.python), "-m", "pytest", *flags], environ)
    return 0


def become(places: Places, command: list[str], environ: Mapping[str, str]) -> None:
    """Replaces this process with ``command``: signals and the exit status are then the program's own."""
    if command[1:3] == ["-m", "pytest"]:
        os.chdir(places.checkout)
    sys.stderr.flush()
    os.execve(command[0], command, dict(environ))


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    except SetupFault as fault:
        for line in fault.lines:
            say(line)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        say("\nStopped. The same command goes on from here.")
        sys.exit(130)
