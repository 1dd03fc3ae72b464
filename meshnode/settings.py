"""Which settings there are: key, flag, variable, what is allowed, default, and a sentence for people. Pure.

:data:`SETTINGS` is the only place where a setting is declared; the command line's options, the environment's names, the
keys of ``config.toml`` and the table in the README are derived from it. To add a setting, add one ``_setting(…)`` here
and the field of that name to its record in :mod:`meshnode.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from meshnode import kinds

MiB: Final = 1 << 20


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


_MODEL: Final = kinds.text(r"\*|[^\s,*]{1,200}", "the name of a model, or * for all", "NAME")
_ONE_MODEL: Final = kinds.text(r"[^\s,*]{1,200}", "the name of a model, an alias, or a router mode", "NAME")
_NETWORK: Final = kinds.text(r"[A-Za-z0-9_.-]{1,64}", "a name of 1 to 64 letters, digits, -, _ and .", "NAME")
_ORIGIN: Final = kinds.text(r"https?://[^\s/]+", "an origin such as https://app.example", "ORIGIN")

# fmt: off
SETTINGS: Final[tuple[Setting, ...]] = (
    _setting("home", kinds.path(), Path("~/.meshnode"), "Where keys, models, the database and config.toml are kept."),
    _setting("stop_deadline_s", kinds.number(0, 3600), 10.0,
             "Seconds that answers under way may still take when the node stops."),
    _setting("hub", kinds.text(r"https?://[^\s/]+[^\s]*", "an http:// or https:// URL", "URL"), "https://huggingface.co",
             "Model hub that `hf:owner/repo:quant` refers to."),
    _setting("default_model", _ONE_MODEL, "auto",
             "What answers a request that names no model: a model, an alias, or `auto`, `fast`, `cheapest`, `best`."),
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
    _setting("net.network", _NETWORK, "public",
             "Network this node belongs to: peers that name another do not meet it.", flag="--network"),
    _setting("net.announce", kinds.listing(kinds.multiaddr()), (),
             "Multiaddr that peers are told instead of those listened on; may be given again.", flag="--announce"),
    _setting("net.open", kinds.switch(), False,
             "Let peers of the network in although this node joined nobody: for the first node of a network.",
             flag="--open"),
    _setting("net.lan", kinds.switch(), True,
             "Find peers on the local network (mDNS), once this node joined something; `--no-lan` does not.",
             flag="--no-lan", negated=True),
    _setting("serve.models", kinds.listing(_MODEL), ("*",),
             "Model of this node that strangers may use; `*` is all; may be given again."),
    _setting("serve.client_only", kinds.switch(), False,
             "Use the mesh, serve nothing, run no engine.", flag="--client-only"),
    _setting("serve.per_peer", kinds.integer(1, 4096), 8, "Requests of one peer answered at a time."),
    _setting("serve.requests", kinds.integer(1, 4096), 32, "Requests of strangers answered at a time."),
    _setting("engine.enabled", kinds.switch(), True,
             "Run models here; `--no-engine` leaves that to the mesh.", flag="--no-engine", negated=True),
    _setting("engine.cpu", kinds.switch(), False, "Run on the CPU even where there is a GPU.", flag="--cpu"),
    _setting("engine.model", kinds.text(metavar="NAME_OR_PATH"), None,
             "Model to load at start: its name, or the path of a GGUF file.", flag="--model"),
    _setting("engine.context", kinds.integer(0, 1 << 22), 0,
             "Context length in tokens; 0 takes the model's own, up to 32768.", flag="--context"),
    _setting("engine.slots", kinds.integer(1, 256), 16, "Conversations computed at a time, per model.", flag="--slots"),
    _setting("engine.batch", kinds.integer(32, 1 << 16), 2048, "Largest batch of tokens in one step."),
    _setting("engine.cache_ram", kinds.integer(0, 1 << 20), 1024,
             "MiB of memory, per model, from which idle conversations come back instead of being computed; 0: none."),
    _setting("engine.threads", kinds.integer(0, 1024), 0, "CPU threads for decoding; 0 chooses.", flag="--threads"),
    _setting("engine.threads_batch", kinds.integer(0, 1024), 0, "CPU threads for reading prompts; 0 chooses."),
    _setting("engine.gpu_layers", kinds.integer(-1, 10000), -1,
             "Layers to put on the GPU; -1 means all that fit.", flag="--gpu-layers"),
    _setting("engine.max_loaded", kinds.integer(1, 64), 4, "Models in memory at a time, where that is large enough."),
    _setting("engine.memory", kinds.size(0, 1 << 50), 0,
             "Memory that models in it take together; 0 takes what is free when one is loaded, less a reserve."),
    _setting("engine.idle_unload_s", kinds.number(0, 1e8), 1800.0,
             "Seconds after which a model that nobody used gives its memory back; 0 keeps it."),
    _setting("engine.load_timeout_s", kinds.number(1, 86400), 600.0, "Seconds a model may take to load."),
    _setting("engine.sandbox", kinds.switch(), True,
             "Keep each model's process from files, network and programs; `--no-sandbox` does not, for a GPU's driver "
             "that needs them.", flag="--no-sandbox", negated=True),
    _setting("store.enabled", kinds.switch(), True,
             "Keep answers that clients ask to be kept, and background jobs, encrypted in the home; `--no-store` keeps "
             "nothing and refuses such requests.", flag="--no-store", negated=True),
    _setting("store.days", kinds.integer(1, 3650), 30, "Days after which what was kept is deleted."),
    _setting("log.level", kinds.choice("debug", "info", "warning", "error"), "info", "Least severe messages to log."),
    _setting("log.format", kinds.choice("auto", "console", "json"), "auto",
             "Log for people or for machines; auto: for people where it is a terminal."),
)
# fmt: on

OTHER_ENVIRONMENT: Final[Mapping[str, str]] = {
    "MESHNODE_DEBUG": "Set to 1: show Python tracebacks of unexpected errors on the terminal.",
}
"""Variables that are read elsewhere and are no settings."""


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
