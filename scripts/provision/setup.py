"""The steps of a setup, each skipped when it was done before."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from provision import environment, machine, prerequisites, wheel
from provision.environment import Installer, Stamp
from provision.lockfile import held
from provision.packages import describe_system
from provision.places import Places
from provision.screen import duration, say
from provision.wishes import read_wishes

VENV_BYTES = 1_000_000_000
"""Free disk wanted for .venv: twice what it takes."""


def prepare(
    places: Places, lock: str, flags: Sequence[str], environ: Mapping[str, str], *, again: bool = False
) -> None:
    """Makes .venv hold what the lock "run" or "test" asks for, with the engine for this machine.

    Where nothing has changed since the last time, this reads a few files and returns. Raises SetupFault.
    """
    wishes = read_wishes(flags, environ)
    choice = machine.choose(wishes, environ)
    engine = wheel.describe(places, choice.backend, environ, wheel.cpu_description()) if wishes.engine else None
    stamp = environment.read_stamp(places)
    if not again and environment.is_current(places, stamp, lock) and _has_engine(stamp, engine, cpu=wishes.cpu):
        return
    began = time.monotonic()
    prerequisites.check(describe_system(), environ, lambda env: _needs(choice.backend, engine is not None, env))
    # Asked again: what was missing may have been installed just now.
    if engine is not None and (advice := machine.choose(wishes, environ).advice):
        say(advice)
    with held(places.mutex, "at work on this checkout"):
        stamp = environment.read_stamp(places)
        if not environment.is_current(places, stamp, lock):
            prerequisites.check_disk(places.checkout, VENV_BYTES, "The Python environment")
            stamp = environment.fill(places, stamp, lock, environ)
        if engine is not None and (again or not _has_engine(stamp, engine, cpu=wishes.cpu)):
            _put_engine(places, stamp, engine, environ, again=again)
    say(f"Setup took {duration(time.monotonic() - began)}.")


def _needs(backend: str, engine: bool, environ: Mapping[str, str]) -> list[prerequisites.Need]:
    return prerequisites.needs(environ) + (prerequisites.gpu_needs(backend, environ) if engine else [])


def _has_engine(stamp: Stamp, engine: wheel.Engine | None, *, cpu: bool) -> bool:
    if engine is None or stamp.engine == engine.key:
        return True
    # With --cpu, a build for a GPU will do: it runs on the CPU as well.
    return (
        cpu and stamp.engine.startswith(f"{engine.version}-") and not stamp.engine.startswith(f"{engine.version}-cpu")
    )


def _put_engine(places: Places, stamp: Stamp, engine: wheel.Engine, environ: Mapping[str, str], *, again: bool) -> None:
    built = wheel.build(places, engine, environ, again=again)
    log = places.cache / "logs" / "install.log"
    installer = Installer(places, environ, log)
    with installer.unfinished():
        installer.pip("Installing the engine", "--no-deps", "--no-index", "--force-reinstall", os.fspath(built))
    environment.write_stamp(places, replace(stamp, engine=engine.key))
