"""Settings: one frozen record, layered: defaults < ``config.toml`` < environment < flags.

:data:`SETTINGS` is the only place where a setting is declared; the command line's options, the environment's names, the
keys of the file and the table in the README are derived from it. :func:`load` is pure. To add a setting, add one
``_setting(…)`` and the field of that name to its record.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from meshnode import kinds
from meshnode.domain import Record
from meshnode.errors import ConfigError

CONFIG_FILE: Final = "config.toml"
MAX_FILE: Final = 1 << 20
MiB: Final = 1 << 20


# --- the settings ---------------------------------------------------------------------------------


class Setting(NamedTuple):
    """One setting. ``key`` is its dotted place in ``config.toml``; ``env`` is the flag in capitals.

    ``default`` is what an unset one has. ``negated`` settings are switched *off* by their flag and variable.
    """

    key: str
    type: kinds.Kind
    default: Any
    help: str
    flag: str
    env: str
    negated: bool = False


def _setting(key: str, kind: kinds.Kind, default: Any, text: str, *, flag: str = "", negated: bool = False) -> Setting:
    flag = flag or "--" + key.removesuffix("_s").replace(".", "-").replace("_", "-")
    env = "MESHNODE_" + flag.removeprefix("--").replace("-", "_").upper()
    return Setting(key, kind, default, text, flag, env, negated)


_ORIGIN: Final = kinds.text(r"https?://[^\s/]+", "an origin such as https://app.example", "ORIGIN")

# fmt: off
SETTINGS: Final[tuple[Setting, ...]] = (
    _setting("home", kinds.path(), Path("~/.meshnode"), "Where keys, models, the database and config.toml are kept."),
    _setting("stop_deadline_s", kinds.number(0, 3600), 10.0,
             "Seconds that answers under way may still take when the node stops."),
    _setting("hub", kinds.text(r"https?://[^\s/]+[^\s]*", "an http:// or https:// URL", "URL"), "https://huggingface.co",
             "Model hub that `hf:owner/repo:quant` refers to."),
    _setting("api.address", kinds.address(), "127.0.0.1:9337",
             "HOST:PORT of the API; port 0 takes a free one. Off loopback it needs a key file and TLS.", flag="--api"),
    _setting("api.key_file", kinds.path(), None, "File with the API keys, one a line."),
    _setting("api.tls_cert", kinds.path(), None, "TLS certificate chain (PEM)."),
    _setting("api.tls_key", kinds.path(), None, "TLS private key (PEM)."),
    _setting("api.local_key", kinds.switch(), False,
             "Ask for a key on loopback too (for machines with several users)."),
    _setting("api.cors_origins", kinds.listing(_ORIGIN), (),
             "Web origins, besides this node's own page, that may call the API.", flag="--cors-origin"),
    _setting("api.max_body", kinds.size(1 << 10, 1 << 30), 32 * MiB, "Largest request body."),
    _setting("api.max_connections", kinds.integer(1, 65536), 1024, "Connections open at a time."),
    _setting("api.max_generating", kinds.integer(1, 4096), 256, "Requests being answered at a time."),
    _setting("api.max_queued", kinds.integer(0, 65536), 1024, "Requests waiting at a time."),
    _setting("api.header_timeout_s", kinds.number(0.1, 600), 10.0,
             "Seconds a client may take to send its request's headers."),
    _setting("api.idle_timeout_s", kinds.number(0.1, 86400), 30.0, "Seconds an idle connection is kept."),
    _setting("net.listen", kinds.listing(kinds.multiaddr()), ("/ip4/127.0.0.1/tcp/9338",),
             "Multiaddr to listen on for peers; may be given again.", flag="--listen"),
    _setting("net.join", kinds.listing(kinds.multiaddr()), (),
             "Multiaddr of a peer to join; may be given again.", flag="--join"),
    _setting("net.private_network", kinds.path(), None,
             "File with the pre-shared key of a private network.", flag="--private-network"),
    _setting("engine.enabled", kinds.switch(), True,
             "Run models here; `--no-engine` leaves that to the mesh.", flag="--no-engine", negated=True),
    _setting("engine.cpu", kinds.switch(), False, "Run on the CPU even where there is a GPU.", flag="--cpu"),
    _setting("engine.model", kinds.text(metavar="NAME_OR_PATH"), None,
             "Model to load at start: its name, or the path of a GGUF file.", flag="--model"),
    _setting("engine.context", kinds.integer(0, 1 << 22), 0,
             "Context length in tokens; 0 takes the model's own, up to 32768.", flag="--context"),
    _setting("engine.slots", kinds.integer(1, 256), 16, "Conversations computed at a time, per model.", flag="--slots"),
    _setting("engine.batch", kinds.integer(32, 1 << 16), 2048, "Largest batch of tokens in one step."),
    _setting("engine.threads", kinds.integer(0, 1024), 0, "CPU threads for decoding; 0 chooses.", flag="--threads"),
    _setting("engine.threads_batch", kinds.integer(0, 1024), 0, "CPU threads for reading prompts; 0 chooses."),
    _setting("engine.gpu_layers", kinds.integer(-1, 10000), -1,
             "Layers to put on the GPU; -1 means all that fit.", flag="--gpu-layers"),
    _setting("engine.max_loaded", kinds.integer(1, 64), 1, "Models in memory at a time."),
    _setting("engine.load_timeout_s", kinds.number(1, 86400), 600.0, "Seconds a model may take to load."),
    _setting("log.level", kinds.choice("debug", "info", "warning", "error"), "info", "Least severe messages to log."),
    _setting("log.format", kinds.choice("auto", "console", "json"), "auto",
             "Log for people or for machines; auto: for people where it is a terminal."),
)
# fmt: on

OTHER_ENVIRONMENT: Final[Mapping[str, str]] = {
    "MESHNODE_DEBUG": "Set to 1: show Python tracebacks of unexpected errors on the terminal.",
}
"""Variables that are read elsewhere and are no settings."""
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
    """The peer-to-peer side; addresses are multiaddrs."""

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/9338",)
    join: tuple[str, ...] = ()
    private_network: Path | None = None


class EngineSettings(Record, frozen=True):
    """How models are run. ``context`` and ``batch`` in tokens."""

    enabled: bool = True
    cpu: bool = False
    model: str | None = None
    context: int = 0
    slots: int = 16
    batch: int = 2048
    threads: int = 0
    threads_batch: int = 0
    gpu_layers: int = -1
    max_loaded: int = 1
    load_timeout_s: float = 600.0


class LogSettings(Record, frozen=True):
    """What is logged, and in which form."""

    level: str = "info"
    format: str = "auto"


class Settings(Record, frozen=True):
    """Everything an owner can set. ``aliases`` maps names that clients use to model names."""

    home: Path
    api: ApiSettings = ApiSettings()
    net: NetSettings = NetSettings()
    engine: EngineSettings = EngineSettings()
    log: LogSettings = LogSettings()
    stop_deadline_s: float = 10.0
    hub: str = "https://huggingface.co"
    aliases: Mapping[str, str] = {}


# --- layers ---------------------------------------------------------------------------------------


def load(flags: Mapping[str, object], environ: Mapping[str, str], toml: str | None) -> Settings:
    """The settings that the three layers give. Pure.

    ``flags`` maps keys to what the command line gave (``None`` or empty: not given), ``environ`` is the whole
    environment, ``toml`` the text of ``<home>/config.toml``. Raises ConfigError, naming where the value came from.
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
    return Settings(
        home=home,
        api=ApiSettings(**_section(values, "api")),
        net=NetSettings(**_section(values, "net")),
        engine=EngineSettings(**_section(values, "engine")),
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


# --- for the README -------------------------------------------------------------------------------


def shown(setting: Setting) -> str:
    """The default of a setting as a person would write it; empty when there is none."""
    default = setting.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple):
        return ", ".join(default)
    return f"{default >> 20} MiB" if setting.key == "api.max_body" else str(default)


def markdown_table() -> str:
    """The settings as a Markdown table, one row each, for the README; ends with a newline."""
    rows = ["| key of `config.toml` | flag | environment | default | what it does |", "|---|---|---|---|---|"]
    for setting in SETTINGS:
        key = "(where `config.toml` lies)" if setting.key == "home" else f"`{setting.key}`"
        default = f"`{shown(setting)}`" if setting.default not in (None, ()) else ""
        rows.append(f"| {key} | `{setting.flag}` | `{setting.env}` | {default} | {setting.help} |")
    rows.append('| `[aliases]` | | | | More names of models: `gpt-4o = "smollm2-135m-instruct"`. |')
    rows += [f"| | | `{name}` | | {text} |" for name, text in OTHER_ENVIRONMENT.items()]
    return "\n".join(rows) + "\n"
