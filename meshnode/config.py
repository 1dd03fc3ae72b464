"""Settings: one frozen record, layered: defaults < ``config.toml`` < environment < flags.

:mod:`meshnode.settings` declares each; here are the records that hold them. :func:`load` is pure.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from meshnode.domain import Record
from meshnode.errors import ConfigError
from meshnode.settings import OTHER_ENVIRONMENT, SETTINGS, MiB, Setting

CONFIG_FILE: Final = "config.toml"
MAX_FILE: Final = 1 << 20
FOREIGN_PREFIXES: Final = ("MESHNODE_TEST_", "MESHNODE_SETUP_", "MESHNODE_BENCH_")
"""Prefixes of variables that belong to the scripts and tests of the checkout."""


class ApiSettings(Record, frozen=True):
    """The HTTP API. ``max_body`` in bytes."""

    address: str = "127.0.0.1:9337"
    key_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    local_key: bool = False
    cors_origins: tuple[str, ...] = ()
    max_body: int = 32 * MiB
    max_connections: int = 1024
    max_generating: int = 256
    max_queued: int = 1024
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 30.0

    @property
    def host(self) -> str:
        """The host part of ``address``, without the brackets of an IPv6 address."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port part of ``address``; 0 means any free one."""
        return int(self.address.rpartition(":")[2])


class NetSettings(Record, frozen=True):
    """The peer-to-peer side; addresses are multiaddrs. ``open``: peers come in though this node joined nobody."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/9338",)
    join: tuple[str, ...] = ()
    private_network: Path | None = None
    network: str = "public"
    announce: tuple[str, ...] = ()
    open: bool = False
    lan: bool = True


class ServeSettings(Record, frozen=True):
    """What strangers may use: names of models (``*``: all), and how many requests at a time, of one peer and of all.

    A ``client_only`` node serves nothing and runs no engine: ``engine.enabled`` comes out false.
    """

    models: tuple[str, ...] = ("*",)
    client_only: bool = False
    per_peer: int = 8
    requests: int = 32


class EngineSettings(Record, frozen=True):
    """How models are run.

    ``context`` and ``batch`` in tokens, ``cache_ram`` in MiB, ``memory`` in bytes (0: what is free).
    """

    enabled: bool = True
    cpu: bool = False
    model: str | None = None
    context: int = 0
    slots: int = 16
    batch: int = 2048
    cache_ram: int = 1024
    threads: int = 0
    threads_batch: int = 0
    gpu_layers: int = -1
    max_loaded: int = 4
    memory: int = 0
    idle_unload_s: float = 1800.0
    load_timeout_s: float = 600.0
    sandbox: bool = True


class StoreSettings(Record, frozen=True):
    """What is kept of what people asked and were answered, and for how many ``days``."""

    enabled: bool = True
    days: int = 30


class LogSettings(Record, frozen=True):
    """What is logged, and in which form."""

    level: str = "info"
    format: str = "auto"


class Settings(Record, frozen=True):
    """Everything an owner can set. ``aliases`` maps names that clients use to model names.

    ``default_model`` is a name too, or a router mode.
    """

    home: Path
    api: ApiSettings = ApiSettings()
    net: NetSettings = NetSettings()
    serve: ServeSettings = ServeSettings()
    engine: EngineSettings = EngineSettings()
    store: StoreSettings = StoreSettings()
    log: LogSettings = LogSettings()
    stop_deadline_s: float = 10.0
    hub: str = "https://huggingface.co"
    default_model: str = "auto"
    aliases: Mapping[str, str] = {}


# --- layers ---------------------------------------------------------------------------------------


def load(flags: Mapping[str, object], environ: Mapping[str, str], toml: str | None) -> Settings:
    """The settings that the three layers give. Pure.

    ``flags`` maps keys to what the command line gave (``None`` or empty: not given), ``environ`` is the whole
    environment, ``toml`` the text of ``<home>/config.toml``. A client-only node has no engine, whatever else is said.
    Raises ConfigError, naming where the value came from.
    """
    home = home_of(flags, environ)
    values: dict[str, object] = {setting.key: setting.default for setting in SETTINGS}
    aliases: Mapping[str, str] = {}
    if toml is not None:
        from_file, aliases = _from_toml(toml, home)
        values |= from_file
    values |= _from_environment(environ)
    values |= _from_flags(flags)
    values = {key: _expand(value, environ) for key, value in values.items()}
    if values["serve.client_only"]:
        values["engine.enabled"] = False
    return Settings(
        home=home,
        api=ApiSettings(**_section(values, "api")),
        net=NetSettings(**_section(values, "net")),
        serve=ServeSettings(**_section(values, "serve")),
        engine=EngineSettings(**_section(values, "engine")),
        store=StoreSettings(**_section(values, "store")),
        log=LogSettings(**_section(values, "log")),
        aliases=aliases,
        **{key: value for key, value in values.items() if "." not in key and key != "home"},  # type: ignore[arg-type]
    )


def home_of(flags: Mapping[str, object], environ: Mapping[str, str]) -> Path:
    """The home that flags and environment name, or the default; the file cannot move it. Raises ConfigError."""
    setting = _BY_KEY["home"]
    variable = _from_environment({setting.env: environ.get(setting.env, "")})
    named = variable | _from_flags({"home": flags.get("home")})
    home = _expand(named.get("home", setting.default), environ)
    assert isinstance(home, Path)
    return home


def read(flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """:func:`load` with the ``config.toml`` of the home on disk, if there is one; ``home`` comes out absolute.

    Raises ConfigError.
    """
    home = home_of(flags, environ).absolute()
    return load({**flags, "home": home}, environ, _text_of(home / CONFIG_FILE))


def _text_of(path: Path) -> str | None:
    try:
        return _read(path).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", hint=f"Mend its permissions: chmod 600 {path}")


def _read(path: Path) -> bytes:
    """A file of settings, which is neither a pipe that waits for a writer nor a device without an end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"{path} is not a file of settings.", hint="Move it elsewhere.")
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE >> 10} KiB.", hint="Is it a file of settings?")
    return data


def _from_flags(flags: Mapping[str, object]) -> dict[str, object]:
    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    values = {}
    for key, value in given.items():
        if key not in _BY_KEY:
            _unknown("The command line:", key, _BY_KEY)
        setting = _BY_KEY[key]
        parse = setting.type.from_text if isinstance(value, str) else setting.type.parse
        values[key] = _parse(setting, parse, value, setting.flag)
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    values = {}
    for name, text in environ.items():
        ours = name.startswith("MESHNODE_") and not name.startswith(FOREIGN_PREFIXES) and name not in OTHER_ENVIRONMENT
        if not ours or not text:
            continue
        if name not in _BY_ENV:
            _unknown("The environment:", name, (*_BY_ENV, *OTHER_ENVIRONMENT))
        setting = _BY_ENV[name]
        value = _parse(setting, setting.type.from_text, text, name)
        values[setting.key] = (not value) if setting.negated else value
    return values


def _from_toml(toml: str, home: Path) -> tuple[dict[str, object], Mapping[str, str]]:
    path = home / CONFIG_FILE
    try:
        document = tomllib.loads(toml)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.", hint="Mend that line; the README lists the settings.")
    aliases = _aliases(document.pop("aliases", {}), path)
    values = {}
    for key, value in _flatten(document):
        place = f"{path}{_line_of(toml, key)}:"
        if key == "home":
            raise ConfigError(f"{place} home cannot be set in the home itself.", hint="Use --home or MESHNODE_HOME.")
        if key in _SECTIONS:
            raise ConfigError(f"{place} {key} is a table of settings, not a value.", hint=f"Write [{key}].")
        if key not in _BY_KEY:
            _unknown(place, key, (*_BY_KEY, "aliases"))
        parsed = _parse(_BY_KEY[key], _BY_KEY[key].type.parse, value, f"{place} {key}")
        values[key] = home / parsed if isinstance(parsed, Path) and not str(parsed).startswith("~") else parsed
    return values, aliases


def _aliases(table: object, path: Path) -> Mapping[str, str]:
    if not isinstance(table, dict) or not all(isinstance(name, str) and name for name in table.values()):
        raise ConfigError(
            f"{path}: aliases = {table!r} is not a table of names.",
            hint='Write lines such as gpt-4o = "smollm2-135m-instruct" under [aliases].',
        )
    return {alias: str(name) for alias, name in table.items()}


def _parse(setting: Setting, parse: Callable[[Any], object], value: object, place: str) -> object:
    try:
        return parse(value)
    except ValueError:
        shown = ", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
        raise ConfigError(f"{place}: {shown} is not allowed.", hint=f"Allowed: {setting.type.allowed}.")


def _unknown(place: str, name: str, known: Iterable[str]) -> NoReturn:
    nearest = difflib.get_close_matches(name, tuple(known), n=1, cutoff=0.4)
    hint = f"Did you mean {nearest[0]}?" if nearest else "The README lists the settings."
    raise ConfigError(f"{place} {name} is not a setting.", hint=hint)


def _expand(value: object, environ: Mapping[str, str]) -> object:
    if isinstance(value, Path) and value.parts[:1] == ("~",):
        return Path(environ.get("HOME", "~"), *value.parts[1:])
    return value


def _flatten(table: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif not isinstance(value, dict) or f"{prefix}{name}" not in _SECTIONS:
            yield prefix + name, value


def _line_of(toml: str, key: str) -> str:
    """`` line N`` of a key, found by eye rather than by grammar (the parser keeps no places); empty if not found."""
    section = ""
    for number, line in enumerate(toml.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            section = header[1] + "."
        name = re.match(r"""\s*([\w."'-]+)\s*=""", line)
        if (name and section + name[1] == key) or (header and key == header[1]):
            return f" line {number}"
    return ""


def _section(values: Mapping[str, object], name: str) -> dict[str, Any]:
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_BY_ENV: Final = {setting.env: setting for setting in SETTINGS}
_SECTIONS: Final = frozenset(setting.key.partition(".")[0] for setting in SETTINGS if "." in setting.key)
