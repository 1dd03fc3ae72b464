"""The options of ``up``: one per setting, and the values they give."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from meshnode.cli.options import UpCommand, flags_of, settings_options
from meshnode.cli.up import up
from meshnode.config import ServeSettings, load
from meshnode.settings import SETTINGS, Setting


def flags(*words: str) -> dict[str, object]:
    """What the words mean as flags."""
    found: dict[str, object] = {}

    @click.command(cls=UpCommand)
    @settings_options
    def command(**given: object) -> None:
        found.update(flags_of(given))

    result = CliRunner().invoke(command, words, catch_exceptions=False, env={})
    assert result.exit_code == 0, result.output
    return found


def test_nothing_given_is_nothing_set() -> None:
    assert load(flags(), {}, None) == load({}, {}, None)


def test_the_flags_of_the_main_road() -> None:
    settings = load(
        flags(
            "--home", "/h", "--api", "[::1]:1", "--listen", "/ip4/1.2.3.4/tcp/1", "--listen", "/ip4/1.2.3.4/tcp/2",
            "--join", "/dns4/a.example/tcp/1", "--model", "./x.gguf", "--cpu", "--private-network", "psk",
            "--network", "home", "--announce", "/ip4/5.6.7.8/tcp/3", "--open", "--no-lan", "--serve-models", "a",
            "--serve-models", "b:q8_0", "--serve-per-peer", "2", "--serve-requests", "4",
        ), {}, None,
    )  # fmt: skip
    assert str(settings.home) == "/h"
    assert settings.api.address == "[::1]:1"
    assert settings.net.listen == ("/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/2")
    assert settings.net.join == ("/dns4/a.example/tcp/1",)
    assert settings.engine.model == "./x.gguf"
    assert settings.engine.cpu
    assert str(settings.net.private_network) == "psk"
    assert (settings.net.network, settings.net.announce) == ("home", ("/ip4/5.6.7.8/tcp/3",))
    assert (settings.net.open, settings.net.lan) == (True, False)
    assert settings.serve == ServeSettings(models=("a", "b:q8_0"), per_peer=2, requests=4)


def test_no_engine_and_its_opposite() -> None:
    assert not load(flags("--no-engine"), {}, None).engine.enabled
    assert load(flags("--engine"), {"MESHNODE_NO_ENGINE": "1"}, None).engine.enabled
    assert not load(flags("--no-cpu"), {"MESHNODE_CPU": "1"}, None).engine.cpu
    assert load(flags("--lan"), {"MESHNODE_NO_LAN": "1"}, None).net.lan


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_is_in_the_help_with_its_default(setting: Setting) -> None:
    text = " ".join(CliRunner().invoke(up, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert setting.flag in text
    assert " ".join(setting.help.replace("`", "").split()) in text


def test_what_people_change_comes_first() -> None:
    text = CliRunner().invoke(up, ["--help"]).output.partition("Options:")[2]
    names = ("--home", "--api ", "--listen", "--model", "--hub", "API:", "Network:", "Serving:", "Engine:", "Log:")
    order = [text.index(name) for name in names]
    assert order == sorted(order)
