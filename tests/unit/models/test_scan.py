"""What other programs hold is found under their names, in bounds, and a trap among it harms nothing."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from meshnode.models import scan
from meshnode.models.scan import Found, Place, Problem, find_models, places

DIGEST = "ab" * 32


def put(path: Path, content: bytes = b"GGUF") -> Path:
    """Write a file, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def manifest(*digests: str) -> bytes:
    """An Ollama manifest with these model layers."""
    layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"} for digest in digests]
    return json.dumps({"schemaVersion": 2, "layers": [{"mediaType": "template", "digest": "x"}, *layers]}).encode()


def looked(root: Path, source: str) -> tuple[list[Found], list[Problem]]:
    """Look in one place."""
    return find_models([Place(source, root, "ollama" if source == "ollama" else "files")])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("registry/library/llama3.2/3b", "llama3.2-3b"),
        ("registry/library/qwen3/latest", "qwen3"),
        ("registry/library/llama3.2/3b-instruct-q4_K_M", "llama3.2-3b-instruct-q4_k_m"),
        ("registry/someone/tuned/q8_0", "tuned-q8_0"),
    ],
)
def test_ollamas_models_are_found_by_their_manifests(tmp_path: Path, where: str, expected: str) -> None:
    blob = put(tmp_path / "blobs" / f"sha256-{DIGEST}")
    put(tmp_path / "manifests" / where, manifest(DIGEST))
    assert looked(tmp_path, "ollama") == ([Found(blob, expected, DIGEST, "ollama")], [])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{broken", "not a manifest"),
        (b"[]", "not a manifest"),
        (b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 7}]}', "not a manifest"),
        (b"[" * 100_000, "not a manifest"),
        (manifest("../../../../etc/passwd"), "names no sha256"),
        (manifest(DIGEST, "cd" * 32), "split over several blobs"),
        (manifest("ef" * 32), "No such file or directory"),
    ],
)
def test_a_manifest_that_is_none_is_reported(tmp_path: Path, content: bytes, reason: str) -> None:
    put(tmp_path / "blobs" / f"sha256-{DIGEST}")
    put(tmp_path / "manifests" / "r" / "l" / "bad" / "tag", content)
    put(tmp_path / "manifests" / "r" / "l" / "good" / "latest", manifest(DIGEST))
    found, problems = looked(tmp_path, "ollama")
    assert [item.name for item in found] == ["good"]
    assert [problem.reason for problem in problems] == [reason]


def test_a_remote_model_of_ollama_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "manifests" / "r" / "l" / "cloud" / "latest", manifest())
    assert looked(tmp_path, "ollama") == ([], [])


def test_lm_studios_models_are_found(tmp_path: Path) -> None:
    path = put(tmp_path / "publisher" / "Qwen3-4B-GGUF" / "Qwen3-4B-Q4_K_M.gguf")
    put(path.with_name("mmproj-model-f16.gguf"))
    put(path.with_name("big-00002-of-00003.gguf"))
    put(path.with_name("README.md"))
    assert looked(tmp_path, "lm-studio") == ([Found(path, "Qwen3-4B-Q4_K_M.gguf", "", "lm-studio")], [])


def test_the_hub_caches_models_are_found_once_with_their_hash(tmp_path: Path) -> None:
    repository = tmp_path / "models--o--r"
    blob = put(repository / "blobs" / DIGEST)
    for revision in ("one", "two"):
        link = repository / "snapshots" / revision / "m-Q8_0.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(f"../../blobs/{DIGEST}")
    assert looked(tmp_path, "hub-cache") == ([Found(blob, "m-Q8_0.gguf", DIGEST, "hub-cache")], [])


def test_llama_cpps_cache_prefixes_the_repository(tmp_path: Path) -> None:
    path = put(tmp_path / "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q4_K_M.gguf")
    assert looked(tmp_path, "llama.cpp") == ([Found(path, "gemma-3-1b-it-Q4_K_M.gguf", "", "llama.cpp")], [])


def test_links_that_lead_elsewhere_are_reported_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "outside" / "secret.gguf")
    place = tmp_path / "place"
    place.mkdir()
    (place / "a.gguf").symlink_to(tmp_path / "outside" / "secret.gguf")
    (place / "b.gguf").symlink_to("b.gguf")
    (place / "folder").symlink_to(tmp_path / "outside")
    (place / "up").symlink_to("..")
    found, problems = looked(place, "lm-studio")
    assert found == []
    assert {problem.path.name for problem in problems} == {"a.gguf", "b.gguf"}


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    found, problems = looked(tmp_path, "lm-studio")
    assert (found, len(problems)) == ([], 1)


def test_a_pipe_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    os.mkfifo(tmp_path / "manifests" / "m")
    assert looked(tmp_path, "ollama") == ([], [Problem(tmp_path / "manifests" / "m", "not a manifest")])


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_a_name_that_is_no_text_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "m.gguf")
    put(tmp_path / "\udcff.gguf")
    put(tmp_path / "\udcfe" / "n.gguf")
    (tmp_path / "l.gguf").symlink_to(tmp_path / "\udcfe" / "n.gguf")
    found, problems = looked(tmp_path, "lm-studio")
    assert [item.name for item in found] == ["m.gguf"]
    assert {problem.reason for problem in problems} == {"its name is not UTF-8 text"}
    assert all(str(problem.path).isprintable() for problem in problems)


def test_walks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "/".join("abcdefghijkl") / "deep.gguf")
    put(tmp_path / "a.gguf")
    assert [item.name for item in looked(tmp_path, "lm-studio")[0]] == ["a.gguf"]
    monkeypatch.setattr(scan, "MAX_ENTRIES", 3)
    for number in range(5):
        put(tmp_path / f"m{number}.gguf")
    found, problems = looked(tmp_path, "lm-studio")
    assert len(found) <= 3
    assert "more than 3 entries" in problems[0].reason


def test_what_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "open" / "m.gguf")
    put(tmp_path / "closed" / "n.gguf")
    listed = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    # Root reads everything, so the refusal is made here.
    monkeypatch.setattr(os, "scandir", refusing)
    found, problems = looked(tmp_path, "lm-studio")
    assert [item.name for item in found] == ["m.gguf"]
    assert problems == [Problem(tmp_path / "closed", "Permission denied")]


def test_places_follow_the_environment() -> None:
    home = Path("/home/ann")
    usual = {place.root for place in places(home, {})}
    assert home / ".ollama" / "models" in usual
    assert home / ".lmstudio" / "models" in usual
    assert home / ".cache" / "huggingface" / "hub" in usual
    assert home / ".cache" / "llama.cpp" in usual
    moved = {
        place.root
        for place in places(home, {"OLLAMA_MODELS": "/o", "HF_HOME": "/h", "LLAMA_CACHE": "/l", "XDG_CACHE_HOME": "/x"})
    }
    assert {Path("/o"), Path("/h/hub"), Path("/l")} <= moved
    assert Path("/b") in {place.root for place in places(home, {"HF_HUB_CACHE": "/b", "HF_HOME": "/h"})}


def test_places_that_are_not_there_are_no_problem(tmp_path: Path) -> None:
    assert find_models([Place("lm-studio", tmp_path / "missing", "files")]) == ([], [])
