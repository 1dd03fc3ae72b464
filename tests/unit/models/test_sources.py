"""Every form of a source is understood, everything else is refused; the right file of a repository is chosen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.errors import SourceFailed
from meshnode.models.catalogue import DEFAULT
from meshnode.models.sources import (
    FileSource,
    HubFile,
    HubSource,
    Source,
    UrlSource,
    choose_file,
    describe_source,
    file_url,
    parse_source,
    parse_tree,
    public_url,
    tree_url,
)

HUB = HubSource(owner="Qwen", repo="Qwen3-4B-GGUF", want="Q4_K_M")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default", DEFAULT),
        ("hf:Qwen/Qwen3-4B-GGUF:Q4_K_M", HUB),
        ("hf://Qwen/Qwen3-4B-GGUF:Q4_K_M", HUB),
        ("hf.co/Qwen/Qwen3-4B-GGUF:Q4_K_M", HUB),
        ("https://hf.co/Qwen/Qwen3-4B-GGUF", HubSource(owner="Qwen", repo="Qwen3-4B-GGUF")),
        ("hf:o/r:file-name.gguf", HubSource(owner="o", repo="r", want="file-name.gguf")),
        ("https://host.example/a/b.gguf?x=1", UrlSource(url="https://host.example/a/b.gguf?x=1")),
        ("HTTP://host.example:8080/m", UrlSource(url="HTTP://host.example:8080/m")),
        ("./model.gguf", FileSource(path="model.gguf")),
        ("/srv/models/x", FileSource(path="/srv/models/x")),
        ("model.gguf", FileSource(path="model.gguf")),
        ("~/x.gguf", FileSource(path="~/x.gguf")),
    ],
)
def test_each_form_is_understood(text: str, expected: Source) -> None:
    assert parse_source(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "no-such-model", "hf:", "hf:owner", "hf:../..:q4_0", "hf:a/b/c:q4_0", "hf:a/b:../x", "http://", "https://[::1",
     "http://host:port/x", "https://ho st/x", "ftp:host", "ftp://host/x.gguf", "File:///x.gguf", "a\0/b"],
)  # fmt: skip
def test_what_has_no_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SourceFailed) as caught:
        parse_source(text)
    assert "hf:owner/repo:quantisation" in caught.value.hint


@given(st.text(max_size=80) | st.text(max_size=40).map("hf:{}".format) | st.text(max_size=40).map("https://{}".format))
def test_nothing_else_comes_out(text: str) -> None:
    try:
        source = parse_source(text)
    except SourceFailed:
        return
    assert describe_source(source)


def test_secrets_of_a_url_are_not_shown() -> None:
    source = parse_source("https://user:password@host.example:8443/m.gguf?token=hidden#part")
    assert describe_source(source) == "https://host.example:8443/m.gguf"
    assert public_url("http://[::1]:80/x?y") == "http://[::1]:80/x"


def test_a_file_name_comes_from_the_path() -> None:
    assert UrlSource(url="https://h/a/My%20Model-Q4_0.gguf?x=/y").filename == "My Model-Q4_0.gguf"


def test_the_hub_is_asked_where_it_answers() -> None:
    assert tree_url("http://hub/", HUB) == "http://hub/api/models/Qwen/Qwen3-4B-GGUF/tree/main?recursive=true"
    assert file_url("http://hub", HUB, "a b/c#d.gguf") == "http://hub/Qwen/Qwen3-4B-GGUF/resolve/main/a%20b/c%23d.gguf"


def test_a_listing_gives_the_ggufs() -> None:
    digest = "ab" * 32
    listing = [
        {"type": "directory", "oid": "x", "size": 0, "path": "BF16"},
        {"type": "file", "oid": "x", "size": 7, "path": "README.md"},
        {"type": "file", "oid": "x", "size": 9, "path": "m-Q4_0.gguf", "lfs": {"oid": digest, "size": 9}},
        {"type": "file", "oid": "x", "size": 5, "path": "BF16/m-BF16.gguf", "lfs": {"oid": "short", "size": 5}},
        {"type": "file", "oid": "x", "size": 5, "path": "../evil.gguf"},
    ]
    assert parse_tree(json.dumps(listing).encode()) == [
        HubFile(path="m-Q4_0.gguf", size=9, sha256=digest),
        HubFile(path="BF16/m-BF16.gguf", size=5),
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'[{"size": 1}]', b'[{"path": 7}]', b"\xff"])
def test_a_listing_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(SourceFailed, match="listing"):
        parse_tree(body)


def files(*paths: str) -> list[HubFile]:
    """Files of a repository."""
    return [HubFile(path=path, size=1) for path in paths]


def chosen(paths: list[HubFile], want: str | None) -> str:
    """The path that is chosen."""
    return choose_file(paths, HubSource(owner="o", repo="r", want=want)).path


def test_the_quantisation_is_matched_without_case() -> None:
    holding = files("m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-q8_0.gguf", "mmproj-m-Q4_K_M.gguf", "BF16/m-BF16.gguf")
    assert chosen(holding, "q4_k_m") == "m-Q4_K_M.gguf"
    assert chosen(holding, "Q8_0") == "m-q8_0.gguf"
    assert chosen(holding, "bf16") == "BF16/m-BF16.gguf"
    assert chosen(holding, "M-Q4_K_S.GGUF") == "m-Q4_K_S.gguf"
    assert chosen(holding, None) == "m-Q4_K_M.gguf"
    assert chosen(files("only.gguf"), None) == "only.gguf"


@pytest.mark.parametrize(
    ("holding", "want", "reason"),
    [
        (files("m-Q4_0.gguf", "m-Q8_0.gguf"), "q5_k_m", "holds no q5_k_m.*It holds: q4_0, q8_0"),
        (files("m-Q4_0.gguf"), "other.gguf", "holds no other.gguf"),
        (files("a-Q4_0.gguf", "b-Q4_0.gguf"), "q4_0", "several files of q4_0: a-Q4_0.gguf, b-Q4_0.gguf"),
        (files("m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00002-of-00003.gguf"), "q8_0", "split into 3 shards"),
        (files("a-IQ1_S.gguf", "a-IQ1_M.gguf"), None, "holds no single GGUF"),
        ([], None, "holds no GGUF model"),
        (files("mmproj-x-f16.gguf"), "f16", "holds no GGUF model"),
    ],
)
def test_none_or_several_are_refused_with_what_there_is(holding: list[HubFile], want: str | None, reason: str) -> None:
    with pytest.raises(SourceFailed, match=reason):
        chosen(holding, want)
