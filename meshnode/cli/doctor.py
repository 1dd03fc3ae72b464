"""``meshnode doctor``: look at everything a node needs, say what is wrong, and the command that mends it.

With a running node it asks that one; without, it looks for itself. It starts nothing, changes nothing, and a check that
fails is a finding like any other.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Final, NamedTuple

import click

import meshnode
from meshnode import config
from meshnode.cli import findings
from meshnode.cli.findings import Finding, fine, of_error, problem, warning
from meshnode.cli.options import home_option, json_option
from meshnode.cli.show import emit_json, one_line, size
from meshnode.client import open_client, start_command
from meshnode.client_records import Status
from meshnode.config import Settings
from meshnode.engine.hardware import detect
from meshnode.engine.pipe import Device
from meshnode.engine.ram import ram
from meshnode.engine.threads import look
from meshnode.errors import MeshnodeError, NodeNotRunning
from meshnode.storage.home import holder

_MARKS: Final = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}
_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}
_BUILD: Final = "Build the engine's library again: ./scripts/run --rebuild"
_SETUP: Final = "sudo apt-get install libgmp-dev, then ./scripts/setup"
_FILES_OF_OUR_OWN: Final = 1024
_NOT_SYNCHRONISED: Final = 5
"""``TIME_ERROR`` of ``adjtimex(2)``."""


class Seen(NamedTuple):
    """What the library said of itself, by the running node or by a probe."""

    backends: Sequence[str]
    devices: Sequence[Device]
    system_info: str = ""


class Surroundings(NamedTuple):
    """What is looked at. ``root`` holds ``sys``, ``proc`` and ``dev``; ``probe`` asks the installed library."""

    home: Path
    environ: Mapping[str, str]
    root: Path
    now: float
    probe: Callable[[Mapping[str, str]], Seen]


@click.command()
@home_option
@json_option
@click.pass_context
def doctor(context: click.Context, home: Path, as_json: bool) -> None:
    """Say what works here, what does not, and how to mend it.

    The node may run or not. The exit code is 1 where there is a problem.
    """
    found = examine(Surroundings(home, os.environ, Path("/"), time.time(), probed))
    well = all(one.level != "problem" for one in found)
    if as_json:
        emit_json({"ok": well, "findings": found})
    else:
        for one in found:
            _print(one)
        click.echo(_summary(found))
    context.exit(0 if well else 1)


def _print(one: Finding) -> None:
    mark = click.style(_MARKS[one.level].ljust(8), fg=_COLOURS[one.level])
    click.echo(f"{mark} {one_line(one.topic)}: {one_line(one.says)}")
    if one.mend:
        click.echo(f"{' ' * 11}{one_line(one.mend)}")


def _summary(found: Sequence[Finding]) -> str:
    problems = sum(one.level == "problem" for one in found)
    warnings = sum(one.level == "warning" for one in found)
    if not problems and not warnings:
        return "All is well."
    return f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}."


# --- looking around ---------------------------------------------------------------------------------


def examine(around: Surroundings) -> list[Finding]:
    """Every finding, in the order a start would meet them. Never raises."""
    found: list[Finding] = []

    def check(topic: str, looks: Callable[[], Iterable[Finding]]) -> None:
        try:
            found.extend(looks())
        except MeshnodeError as error:
            found.append(of_error(topic, error))
        except Exception as error:
            found.append(problem(topic, f"could not be looked at ({type(error).__name__}).", "Please report this."))

    settings: list[Settings] = []
    status: list[Status] = []
    check("program", _program)
    check("settings", lambda: _settings(around, settings))
    check("node", lambda: _node(around, status))
    check("home", lambda: _home(around))
    check("disk", lambda: [_disk(around.home)])
    given = settings[0] if settings else Settings(home=around.home)
    if not status:
        check("port", lambda: _port(given))
    check("engine", lambda: _engine(around, given, status[0] if status else None))
    check("threads", lambda: findings.of_threads(look(around.root), given.engine.threads, around.environ))
    check("memory", lambda: [findings.of_memory(*ram(around.root))])
    check("files", lambda: [_files(given)])
    check("clock", lambda: [findings.of_clock(around.now, _newest_file(), _synchronised())])
    for model in status[0].models if status else ():
        check(f"model {model.id}", partial(findings.of_model, model))
    return found


def _program() -> Iterable[Finding]:
    """This program, and whether the libraries built for this machine can be loaded."""
    yield fine(
        "program", f"meshnode {meshnode.__version__}, Python {platform.python_version()}, {platform.platform()}."
    )
    try:
        import_module("meshnode.net.host")  # it loads libp2p, and with it what was compiled against GMP
    except (ImportError, OSError) as error:
        yield problem("libp2p", f"cannot be loaded: {error}.", _SETUP)
    else:
        yield fine("libp2p", f"{_version('libp2p')} can be loaded.")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _settings(around: Surroundings, into: list[Settings]) -> Iterable[Finding]:
    into.append(config.read({"home": str(around.home)}, around.environ))
    there = (around.home / config.CONFIG_FILE).exists()
    yield fine(
        "settings", f"{around.home / config.CONFIG_FILE} is sound." if there else "no config.toml; all defaults."
    )


def _node(around: Surroundings, into: list[Status]) -> Iterable[Finding]:
    try:
        with open_client(around.home) as client:
            into.append(client.status())
    except NodeNotRunning as error:
        pid = holder(around.home)
        if pid is None:
            yield fine("node", f"not running on {around.home}; this looks for itself. {start_command(around.home)}")
        else:
            yield problem("node", f"process {pid} holds {around.home} and does not answer.", error.hint)
        return
    told = into[0]
    yield fine("node", f"running, {', '.join(told.api) or 'not answering HTTP yet'}.")
    for each in told.fetching:
        yield fine("node", f"fetching {each.source}, {each.progress:.0%}.")
    if not told.models and not told.fetching and not told.mesh.client_only:
        yield warning("node", "no model is loaded.", "meshnode models, or fetch one: meshnode pull default")


def _home(around: Surroundings) -> Iterable[Finding]:
    home = around.home
    if not home.exists():
        yield fine("home", f"{home} is made by the first start.")
        return
    if not home.is_dir():
        yield problem("home", f"{home} is a file, not a folder.", "Move it away, or choose another --home.")
        return
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield problem("home", f"{home} cannot be written by this user.", f"sudo chown -R {os.geteuid()} {home}")
        return
    yield fine("home", f"{home} can be used.")
    if (home / "crash.log").exists():
        yield warning("home", "a command crashed here before.", f"See, report and remove {home / 'crash.log'}")


def _disk(home: Path) -> Finding:
    there = next(folder for folder in (home, *home.parents) if folder.is_dir())
    return findings.of_disk(home, shutil.disk_usage(there).free)


def _port(given: Settings) -> Iterable[Finding]:
    """Whether the API could listen. Raises PortInUse, UnsafeBind or ConfigError."""
    from meshnode.api.binds import open_sockets

    for opened in open_sockets(given.api):
        opened.close()
    yield fine("port", f"{given.api.address} is free.")


def _engine(around: Surroundings, given: Settings, status: Status | None) -> Iterable[Finding]:
    """The library, its devices, and whether it uses the machine's GPUs. Raises OwnerError where it cannot be loaded."""
    if not given.engine.enabled:
        yield fine("engine", "switched off; the mesh runs the models.")
        return
    seen = around.probe(around.environ) if status is None else _told(status)
    version = _version("llama-cpp-python")
    yield fine("engine", f"llama.cpp of llama-cpp-python {version}, built for {', '.join(seen.backends) or 'nothing'}.")
    if not seen.backends:
        yield problem("engine", "the library has no backend.", _BUILD)
    for device in seen.devices:
        memory = f", {size(device.memory_free)} of {size(device.memory_total)} free" if device.kind != "cpu" else ""
        yield fine("device", f"{device.name}: {device.description}{memory}.")
    accelerators = detect(around.root, platform.system(), platform.machine())
    yield findings.of_gpus(accelerators, seen.backends, seen.devices, cpu=given.engine.cpu)


def _told(status: Status) -> Seen:
    devices = [
        Device(
            name=device.name,
            description=device.description,
            kind=device.kind,
            memory_total=device.memory_total,
            memory_free=device.memory_free,
        )
        for device in status.devices
    ]
    return Seen(status.backends, devices)


def probed(environ: Mapping[str, str]) -> Seen:
    """The installed library's own account, by a process that ends at once. Raises OwnerError."""
    import trio

    from meshnode.engine.probe import probe

    told = trio.run(probe, environ)
    return Seen(told.backends, told.devices, told.system_info)


def _files(given: Settings) -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * given.api.max_connections + _FILES_OF_OUR_OWN
    return findings.of_files(sys.maxsize if hard == resource.RLIM_INFINITY else hard, wanted)


def _newest_file() -> float:
    """When this program was last written to, in seconds since 1970: the clock cannot be earlier."""
    return max((path.stat().st_mtime for path in Path(meshnode.__file__).parent.glob("*.py")), default=0.0)


def _synchronised() -> bool | None:
    """Whether the kernel says that somebody keeps the clock right; None where it does not say."""
    if sys.platform != "linux":
        return None
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zero: only asks
    return None if state < 0 else state != _NOT_SYNCHRONISED
