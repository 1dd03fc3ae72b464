"""Settings in layers, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.config import ServeSettings, Settings, load, read
from meshnode.errors import ConfigError
from meshnode.settings import SETTINGS, Setting


def value_of(settings: Settings, key: str) -> object:
    found: object = settings
    for name in key.split("."):
        found = getattr(found, name)
    return found


# --- layers ---------------------------------------------------------------------------------------


def test_nothing_given_is_the_defaults() -> None:
    settings = load({}, {"HOME": "/home/ann"}, None)
    assert settings == Settings(home=Path("/home/ann/.meshnode"))
    assert settings.api.address == "127.0.0.1:9337"


@pytest.mark.parametrize("setting", SETTINGS[1:], ids=lambda setting: setting.key)
def test_the_declared_default_is_the_records(setting: Setting) -> None:
    key, default = setting.key, setting.default
    assert value_of(Settings(home=Path("h")), key) == default


def test_flags_win_over_the_environment_and_that_over_the_file() -> None:
    toml = '[engine]\nslots = 1\nbatch = 64\nthreads = 1\n[api]\naddress = "127.0.0.1:1"'
    environ = {"MESHNODE_SLOTS": "2", "MESHNODE_ENGINE_BATCH": "128"}
    settings = load({"engine.slots": "3"}, environ, toml)
    assert (settings.engine.slots, settings.engine.batch, settings.engine.threads) == (3, 128, 1)
    assert settings.api.port == 1


def test_a_flag_not_given_hides_nothing() -> None:
    settings = load({"engine.slots": None, "net.listen": ()}, {"MESHNODE_SLOTS": "2"}, None)
    assert settings.engine.slots == 2
    assert settings.net.listen == ("/ip4/127.0.0.1/tcp/9338",)


def test_no_engine_is_the_opposite_of_its_key() -> None:
    assert not load({}, {"MESHNODE_NO_ENGINE": "1"}, None).engine.enabled
    assert load({}, {"MESHNODE_NO_ENGINE": "0"}, "[engine]\nenabled = false").engine.enabled
    assert not load({"engine.enabled": False}, {}, None).engine.enabled


@pytest.mark.parametrize("said", [{}, {"engine.enabled": True}, {"engine.model": "x"}])
def test_a_client_has_no_engine_whatever_else_is_said(said: dict[str, object]) -> None:
    settings = load(said | {"serve.client_only": True}, {}, "[engine]\nenabled = true")
    assert settings.serve.client_only
    assert not settings.engine.enabled


def test_what_strangers_may_use_can_be_nothing() -> None:
    assert load({}, {}, "[serve]\nmodels = []").serve == ServeSettings(models=())
    assert load({}, {"MESHNODE_SERVE_MODELS": "a, b:q8_0"}, None).serve.models == ("a", "b:q8_0")


def test_no_lan_is_the_opposite_of_its_key() -> None:
    assert not load({}, {"MESHNODE_NO_LAN": "1"}, None).net.lan
    assert not load({}, {}, "[net]\nlan = false").net.lan


def test_an_empty_variable_is_not_set() -> None:
    assert load({}, {"MESHNODE_SLOTS": ""}, None).engine.slots == 16


def test_aliases_are_free_names() -> None:
    settings = load({}, {}, '[aliases]\n"gpt-4o" = "smollm2-135m-instruct"\nfast = "x"')
    assert settings.aliases == {"gpt-4o": "smollm2-135m-instruct", "fast": "x"}


def test_paths_of_the_file_start_at_the_home_and_a_tilde_at_the_user() -> None:
    toml = '[api]\nkey_file = "keys"\ntls_cert = "~/cert.pem"\ntls_key = "/etc/key.pem"'
    settings = load({"home": "/srv/node"}, {"HOME": "/home/ann"}, toml)
    assert settings.api.key_file == Path("/srv/node/keys")
    assert settings.api.tls_cert == Path("/home/ann/cert.pem")
    assert settings.api.tls_key == Path("/etc/key.pem")


@pytest.mark.parametrize(
    ("address", "host", "port"), [("127.0.0.1:9337", "127.0.0.1", 9337), ("[::1]:0", "::1", 0), ("box:80", "box", 80)]
)
def test_an_address_has_a_host_and_a_port(address: str, host: str, port: int) -> None:
    api = load({"api.address": address}, {}, None).api
    assert (api.host, api.port) == (host, port)


# --- what is wrong, where, and what would be right ------------------------------------------------

WRONG = [
    ({}, {}, "[engine]\nthread = 3", ["config.toml line 2", "engine.thread", "engine.threads?"]),
    ({}, {}, "[api]\n\n  slots = 3", ["line 3", "api.slots", "Did you mean"]),
    ({}, {}, '[engine]\nslots = "4"', ["line 2", "engine.slots", "'4'", "from 1 to 256"]),
    ({}, {}, "engine.slots = 0", ["line 1", "engine.slots", "0", "from 1 to 256"]),
    ({}, {}, "engine = 3", ["line 1", "engine is a table"]),
    ({}, {}, "x = = 3", ["config.toml", "not TOML", "line 1"]),
    ({}, {}, "aliases = 3", ["config.toml", "aliases", "3"]),
    ({}, {}, "[aliases]\na = 3", ["aliases", "3"]),
    ({}, {}, 'home = "/x"', ["line 1", "home", "--home"]),
    ({}, {}, "[[net]]\nx = 1", ["net"]),
    ({}, {}, "[peers]\nx = 1", ["line 2", "peers.x"]),
    ({}, {"MESHNODE_MODLE": "x"}, None, ["environment", "MESHNODE_MODLE", "MESHNODE_MODEL?"]),
    ({}, {"MESHNODE_CPU": "perhaps"}, None, ["MESHNODE_CPU", "'perhaps'", "true or false"]),
    ({"api.address": "9337"}, {}, None, ["--api", "'9337'", "HOST:PORT"]),
    ({"net.join": ("127.0.0.1",)}, {}, None, ["--join: '127.0.0.1' is not", "multiaddr"]),
    ({"home": "a\nb"}, {}, None, ["--home"]),
    ({"net.network": "my net"}, {}, None, ["--network: 'my net' is not", "1 to 64 letters"]),
    ({"net.network": "x" * 65}, {}, None, ["--network", "1 to 64 letters"]),
    ({"net.announce": ("1.2.3.4",)}, {}, None, ["--announce: '1.2.3.4' is not", "multiaddr"]),
    ({"serve.per_peer": "0"}, {}, None, ["--serve-per-peer: '0'", "from 1 to 4096"]),
    ({"serve.requests": "4097"}, {}, None, ["--serve-requests", "from 1 to 4096"]),
    ({"serve.models": ("",)}, {}, None, ["--serve-models", "* for all"]),
    ({}, {}, "[serve]\nmodel = 3", ["line 2", "serve.model", "serve.models?"]),
]


@pytest.mark.parametrize(("flags", "environ", "toml", "said"), WRONG)
def test_a_wrong_setting_is_named_with_its_place_and_what_is_allowed(
    flags: dict[str, object], environ: dict[str, str], toml: str | None, said: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ, toml)
    for words in said:
        assert words in str(caught.value)


def test_variables_of_others_and_of_the_checkouts_tools_are_left_alone() -> None:
    load({}, {"MESHNODE_DEBUG": "1", "MESHNODE_TEST_MODEL": "x", "MESHNODE_SETUP_PYTHON": "x", "PATH": "/bin"}, None)


@given(st.text(max_size=200))
def test_no_file_does_worse_than_a_config_error(toml: str) -> None:
    assert "config.toml" in (_complaint({}, toml) or "config.toml")


@given(st.sampled_from(SETTINGS[1:]), st.text(alphabet="abc0189.:/,-[] ", min_size=1, max_size=20))
def test_no_variable_does_worse_than_a_config_error_that_names_it(setting: Setting, text: str) -> None:
    assert setting.env in (_complaint({setting.env: text}, None) or setting.env)


def _complaint(environ: dict[str, str], toml: str | None) -> str | None:
    try:
        load({}, environ, toml)
    except ConfigError as error:
        return str(error)
    return None


def test_a_file_nested_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        load({}, {}, "a = " + "[" * 100_000)


# --- on disk --------------------------------------------------------------------------------------


def test_the_file_of_the_home_is_read_and_the_home_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "config.toml").write_text("[engine]\nslots = 2\n")
    monkeypatch.chdir(tmp_path)
    settings = read({"home": "h"}, {})
    assert settings.engine.slots == 2
    assert settings.home == tmp_path / "h"


def test_a_home_without_a_file_has_the_defaults(tmp_path: Path) -> None:
    assert read({}, {"MESHNODE_HOME": str(tmp_path / "none")}).engine.slots == 16


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml is not UTF-8"):
        read({"home": tmp_path}, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        read({"home": tmp_path}, dict(os.environ))


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(ConfigError, match="is not a file"):
        read({"home": tmp_path}, {})


def test_a_file_far_too_large_is_not_taken_in(tmp_path: Path) -> None:
    with (tmp_path / "config.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        read({"home": tmp_path}, {})
