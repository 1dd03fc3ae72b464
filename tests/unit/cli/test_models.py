"""``models``, ``models scan``, ``models add``, ``pull`` and ``rm``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.fakenode import MODEL, FakeNode
from tests.unit.cli.conftest import Shell

FOUND = MODEL | {"id": "llama3.2-3b:q4_k_m", "managed": False, "path": "/o/blobs/sha256-1", "source": "ollama"}


def test_models_are_listed_with_size_and_state(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/models", {"models": [MODEL, FOUND | {"state": "unloaded"}]})
    lines = shell("models").out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "CONTEXT", "STATE", "FROM"]
    assert lines[1].split() == ["smollm2-135m-instruct:q4_1", "98", "MB", "8192", "ready", "default"]
    assert "unloaded" in lines[2]


def test_models_of_peers_are_told_apart(shell: Shell, node: FakeNode) -> None:
    far = {"id": "far-8b:q4_k_m", "context_length": 4096, "state": "ready", "owned_by": "mesh", "providers": 2}
    alone = far | {"id": "x:q8_0", "providers": 1, "state": "unloaded"}
    node.json("GET /api/models", {"models": [MODEL, far, alone]})
    lines = shell("models").out.splitlines()
    assert lines[2].split() == ["far-8b:q4_k_m", "4096", "ready", "mesh", "(2", "providers)"]
    assert lines[3].split() == ["x:q8_0", "4096", "unloaded", "mesh", "(1", "provider)"]
    listed = json.loads(shell("models", "--json").out)["models"]
    assert [(each["owned_by"], each["providers"]) for each in listed] == [("local", 0), ("mesh", 2), ("mesh", 1)]


def test_models_as_json(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/models", {"models": [MODEL]})
    (model,) = json.loads(shell("models", "--json").out)["models"]
    assert (model["id"], model["size"], model["state"]) == (MODEL["id"], MODEL["size"], "ready")


def test_no_models_says_how_to_get_one(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/models", {"models": []})
    assert "meshnode pull default" in shell("models").out


def test_scan_lists_what_was_found(shell: Shell, node: FakeNode) -> None:
    node.json("POST /api/models/scan", {"models": [FOUND]})
    assert "ollama" in shell("models", "scan", "--home", str(node.home)).out
    node.json("POST /api/models/scan", {"models": []})
    assert shell("models", "scan").out == "Nothing new found.\n"


def test_a_file_is_added_where_it_lies(shell: Shell, node: FakeNode, tmp_path: Path) -> None:
    node.json("POST /api/models/add", {"model": FOUND})
    ran = shell("models", "add", str(tmp_path / "x.gguf"), "--name", "mine")
    assert "meshnode chat llama3.2-3b:q4_k_m" in ran.out
    assert node.asked[0].body == {"path": str(tmp_path / "x.gguf"), "name": "mine"}


def test_a_file_that_is_refused_is_said_with_its_reason(shell: Shell, node: FakeNode, tmp_path: Path) -> None:
    node.error("POST /api/models/add", 422, "model_file_refused", "x.gguf is cut off.")
    assert shell("models", "add", str(tmp_path)) == (20, "", "meshnode: x.gguf is cut off.\n")


def test_a_source_too_long_for_a_file_is_the_nodes_to_judge(shell: Shell, node: FakeNode) -> None:
    node.error("POST /api/models/pull", 422, "source_failed", "that is no source.")
    assert shell("pull", "a" * 300) == (19, "", "meshnode: that is no source.\n")
    assert node.asked[0].body == {"source": "a" * 300}


def test_rm_says_whether_the_file_stays(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/models", {"models": [MODEL, FOUND]})
    node.json("DELETE /api/models/smollm2", {"id": MODEL["id"], "deleted": True})
    node.json("DELETE /api/models/llama3.2", {"id": FOUND["id"], "deleted": True})
    ran = shell("rm", "smollm2", "llama3.2")
    assert ran.out.splitlines() == [
        "Removed smollm2-135m-instruct:q4_1.",
        "Removed llama3.2-3b:q4_k_m (its file stays: /o/blobs/sha256-1).",
    ]


def test_rm_of_an_unknown_model_fails(shell: Shell, node: FakeNode) -> None:
    node.json("GET /api/models", {"models": []})
    node.error("DELETE /api/models/x", 404, "model_not_found", "no model is called x.")
    assert shell("rm", "x") == (22, "", "meshnode: no model is called x.\n")


# --- pull -----------------------------------------------------------------------------------------

STEPS = [
    '{"phase": "fetch", "done": 0, "total": 1000, "model": null}',
    '{"phase": "fetch", "done": 50, "total": 1000, "model": null}',
    '{"phase": "fetch", "done": 1000, "total": 1000, "model": null}',
    '{"phase": "verify", "done": 1000, "total": 1000, "model": null}',
    '{"phase": "done", "done": 1000, "total": 1000, "model": "a:q8_0"}',
]


def test_a_pull_says_now_and_then_how_far_it_is(shell: Shell, node: FakeNode) -> None:
    node.lines("POST /api/models/pull", *STEPS)
    ran = shell("pull")
    assert ran.out == "a:q8_0 is here. Ask it: meshnode chat a:q8_0\n"
    assert ran.err.splitlines() == [
        "Fetching: 0 B of 1 kB (0 %)", "Fetching: 1 kB of 1 kB (100 %)", "Checking: 1 kB of 1 kB (100 %)",
    ]  # fmt: skip
    assert node.asked[0].body == {"source": "default"}


def test_a_pull_as_json_is_one_object_a_line(shell: Shell, node: FakeNode) -> None:
    node.lines("POST /api/models/pull", *STEPS)
    lines = [json.loads(line) for line in shell("pull", "--json", "default").out.splitlines()]
    assert [line["phase"] for line in lines] == ["fetch", "fetch", "fetch", "verify", "done"]
    assert lines[-1]["model"] == "a:q8_0"


def test_a_pull_that_fails_says_why_on_one_line(shell: Shell, node: FakeNode) -> None:
    node.lines("POST /api/models/pull", STEPS[0], '{"error": {"message": "404 there.", "code": "source_failed"}}')
    ran = shell("pull", "https://example.org/x.gguf")
    assert ran.code == 19
    assert ran.err.splitlines()[-1] == "meshnode: 404 there."


def test_a_file_is_pulled_by_its_path_from_the_root(
    shell: Shell, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.gguf").touch()
    monkeypatch.chdir(tmp_path)
    node.lines("POST /api/models/pull", STEPS[-1])
    for source, sent in [("x.gguf", str(tmp_path / "x.gguf")), ("hf:o/r:q4_0", "hf:o/r:q4_0")]:
        shell("pull", source)
        assert node.asked[-1].body == {"source": sent}


OUTLOOK = {
    "model": "big:q4_k_m",
    "fits": False,
    "fit": {
        "placement": "none", "gpu_layers": 0, "layers": 37, "context": 32768, "largest_context": 8192,
        "weights": 5_000_000_000, "cache": 4_800_000_000, "compute": 300_000_000, "needed": 10_100_000_000,
        "free": 8_000_000_000, "sentence": "big:q4_k_m does not fit with 32,768 tokens of context.",
    },
    "speed": {"decode_tps": 3.5, "source": "estimated", "sentence": "About 3.5 tokens/s."},
}  # fmt: skip


def test_fit_says_what_a_model_takes_how_fast_it_is_and_by_its_exit_code_whether_it_fits(
    shell: Shell, node: FakeNode
) -> None:
    node.json("GET /api/models/big/fit?context=0", OUTLOOK)
    ran = shell("fit", "big")
    assert ran.code == 1
    for words in ("does not fit with 32,768", "About 3.5 tokens/s", "5.0 GB", "4.8 GB for 32,768", "8,192 tokens"):
        assert words in ran.out
    node.json("GET /api/models/big/fit?context=4096", OUTLOOK | {"fits": True})
    assert shell("fit", "big", "--context", "4096").code == 0
    assert json.loads(shell("fit", "big", "--json").out) == OUTLOOK


def test_fit_refuses_what_is_no_context(shell: Shell, node: FakeNode) -> None:
    ran = shell("fit", "big", "--context", "-5")
    assert ran.code == 2
    assert "no number of tokens" in ran.err
