"""The table of settings, and what is made of it for people."""

from __future__ import annotations

import pytest

from meshnode.settings import SETTINGS, markdown_table, shown


def test_every_setting_has_a_row_with_its_flag_and_variable() -> None:
    rows = markdown_table().splitlines()
    for setting in SETTINGS:
        (row,) = [row for row in rows if f"`{setting.env}`" in row]
        assert f"`{setting.flag}`" in row
        assert setting.help in row


def test_every_key_flag_and_variable_is_there_once() -> None:
    for names in zip(*((setting.key, setting.flag, setting.env) for setting in SETTINGS), strict=True):
        assert len(set(names)) == len(SETTINGS)
    assert {"--home", "--api", "--listen", "--join", "--model", "--no-engine", "--cpu", "--private-network"} <= {
        setting.flag for setting in SETTINGS
    }


def test_what_is_on_by_default_is_switched_off_by_its_flag() -> None:
    for setting in SETTINGS:
        assert setting.negated == setting.flag.startswith("--no-")
        assert not setting.negated or setting.default is True


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("api.max_body", "32 MiB"),
        ("net.lan", "true"),
        ("net.network", "public"),
        ("serve.models", "*"),
        ("net.announce", ""),
        ("api.key_file", ""),
        ("stop_deadline_s", "10"),
    ],
)
def test_a_default_is_shown_as_a_person_would_write_it(key: str, text: str) -> None:
    assert shown(next(setting for setting in SETTINGS if setting.key == key)) == text


def test_a_default_is_one_of_the_allowed_values() -> None:
    for setting in SETTINGS:
        assert setting.default is None or setting.type.parse(setting.default) == setting.default, setting.key
