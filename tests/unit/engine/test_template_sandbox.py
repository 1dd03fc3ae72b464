"""The sandbox lets a template do what templates in use do, and nothing that reaches out of it."""

from __future__ import annotations

from datetime import datetime

import jinja2.exceptions
import pytest

from meshnode.engine.template_sandbox import RefusedError, environment


def shown(source: str, **known: object) -> str:
    """What a template renders."""
    return environment(lambda: datetime(2025, 3, 4)).from_string(source).render(known)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ missing.field['other'] }}|{{ 'a' + missing }}|{{ missing + 'b' }}", "|a|b"),
        ("{{ [{'a': 1}] | map(attribute='a') | tojson }}", "[1]"),
        ("{{ '<a>' | safe + '<b>' }}", "<a><b>"),
        (
            "{% set a = [1] %}{{ a.append(2) or a }}{{ a.pop(0) }}{{ a.insert(0, 3) or a.extend([4]) or a }}",
            "[1, 2]1[3, 2, 4]",
        ),
        ("{% for key, value in {'a': 1}.items() %}{{ key }}{{ value }}{% endfor %}", "a1"),
        ("{{ ' x '.strip() }}{{ 'a,b'.split(',')[-1] }}{{ 'abc'.startswith('ab') }}", "xbTrue"),
        ("{% for a in 'ab' %}{{ loop.index0 }}{{ loop.last }}{{ loop.previtem }}{% endfor %}", "0False1Truea"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2025-03-04"),
    ],
)
def test_templates_do_what_those_in_use_do(source: str, expected: str) -> None:
    assert shown(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.clear() }}",
        "{{ messages.sort() }}",
        "{{ {'a': 1}.update({}) }}",
        "{{ ''.__class__.__mro__[1] }}",
        "{{ missing.__class__.__mro__() }}",
        "{{ strftime_now('%99999d') }}",
        "{{ 10 ** 9999 }}",
    ],
)
def test_what_it_may_not_do_is_refused(source: str) -> None:
    with pytest.raises((jinja2.exceptions.SecurityError, jinja2.exceptions.UndefinedError)):
        shown(source, messages=[1])


def test_a_missing_value_is_not_a_number() -> None:
    with pytest.raises(jinja2.exceptions.UndefinedError):
        shown("{{ missing + 1 }}")


def test_what_is_not_json_is_an_error() -> None:
    with pytest.raises(TypeError, match="not JSON"):
        shown("{{ strftime_now | tojson }}")


def test_a_template_refuses_in_its_own_words() -> None:
    with pytest.raises(RefusedError, match="no"):
        shown("{{ raise_exception('no') }}")
