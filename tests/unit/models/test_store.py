"""The store gives out nothing but its own files, keeps its index whole, and loses nothing to a damaged one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import Conflict, DiskFull, HomeUnusable, ModelFileRefused
from meshnode.models.store import INDEX, PartNote, Store, check_digest, open_store, part_key, translated

DIGEST = "ab" * 32
CARD = ModelCard(
    id=ModelId("a:q4_0"), path="/x", size=1, modified_ns=2, sha256=DIGEST, architecture="llama", quantisation="q4_0",
    context_length=3,
)  # fmt: skip

_names = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["../../etc/passwd", "/etc/passwd", "..", "", INDEX, f"{DIGEST}/../x", DIGEST + "\0", "AB" * 32]),
    st.text(alphabet="./\\0123456789abcdefABCDEF", min_size=60, max_size=70),
    st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
)


@given(_names)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_folder(store: Store, name: str) -> None:
    outside = set(os.listdir(store.folder.parent))
    for use in (store.path, store.open, store.remove, lambda key: store.part(key).open_for_append(0).close()):
        try:
            use(name)
        except ModelFileRefused:
            continue
        assert check_digest(name) == name
        assert store.path(name).resolve().parent == store.folder.resolve()
    assert set(os.listdir(store.folder.parent)) == outside


def test_a_link_in_a_models_place_is_refused(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    store.path(DIGEST).symlink_to(secret)
    with pytest.raises(ModelFileRefused):
        store.open(DIGEST)
    store.remove(DIGEST)
    assert secret.read_text() == "hidden"


def test_a_folder_or_pipe_in_a_models_place_is_refused(store: Store) -> None:
    store.path(DIGEST).mkdir()
    with pytest.raises(ModelFileRefused, match="is not a file"):
        store.open(DIGEST)
    pipe = "cd" * 32
    os.mkfifo(store.path(pipe))
    with pytest.raises(ModelFileRefused, match="is not a file"):
        store.open(pipe)


def test_only_files_named_by_a_digest_count(store: Store) -> None:
    for name in (f"{DIGEST}.gguf", "notes.gguf", f"{DIGEST}.part", f"{DIGEST.upper()}.gguf"):
        (store.folder / name).touch()
    assert store.digests() == [DIGEST]


def test_a_part_becomes_a_model(store: Store) -> None:
    part = store.part(part_key("somewhere"))
    assert part.size() == 0
    with part.open_for_append(0) as file:
        file.write(b"GGUF and so on")
    part.remember(PartNote(url="http://h/x", etag='"1"', size=14))
    assert part.note() == PartNote(url="http://h/x", etag='"1"', size=14)
    assert part.keep_as(DIGEST).read_bytes() == b"GGUF and so on"
    assert os.listdir(store.folder) == [f"{DIGEST}.gguf"]
    with store.open(DIGEST) as kept:
        assert kept.read(4) == b"GGUF"


def test_what_lies_beyond_the_kept_bytes_is_cut(store: Store) -> None:
    part = store.part(DIGEST)
    for at in (0, 3):
        with part.open_for_append(at) as file:
            file.seek(at)
            file.write(b"abcdef")
    with part.open() as written:
        assert written.read() == b"abcabcdef"


def test_old_parts_are_forgotten(store: Store) -> None:
    for key, time in ((DIGEST, 1000), ("cd" * 32, 3000)):
        part = store.part(key)
        part.open_for_append(0).close()
        part.remember(PartNote(url="http://h/x"))
        os.utime(part.path, (time, time))
    store.forget_parts(2000)
    assert sorted(os.listdir(store.folder)) == [f"{'cd' * 32}.part", f"{'cd' * 32}.part.json"]


def test_one_writer_at_a_time(store: Store) -> None:
    with store.claimed_part("x"), store.claimed_part("y"), pytest.raises(Conflict), store.claimed_part("x"):
        pass
    with store.claimed_part("x") as part:
        assert part.size() == 0


def test_a_damaged_note_is_no_note(store: Store) -> None:
    (store.folder / f"{DIGEST}.part.json").write_bytes(b"{broken")
    assert store.part(DIGEST).note() is None


def test_the_index_is_replaced_whole(store: Store) -> None:
    assert store.read_index() == ()
    store.write_index((CARD,))
    assert store.read_index() == (CARD,)
    assert stat.S_IMODE((store.folder / INDEX).stat().st_mode) == 0o600
    store.write_index(())
    assert store.read_index() == ()
    assert os.listdir(store.folder) == [INDEX]


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 1}', b'{"version": 99, "cards": []}', b"\xff\x00"])
def test_a_damaged_index_is_refused_and_kept(store: Store, content: bytes) -> None:
    (store.folder / INDEX).write_bytes(content)
    with pytest.raises(ModelFileRefused):
        store.read_index()
    first = store.set_index_aside()
    (store.folder / INDEX).write_bytes(content)
    assert store.set_index_aside() != first
    assert first.read_bytes() == content


def test_the_folder_is_the_owners_alone(store: Store) -> None:
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(HomeUnusable, match="home"), open_store(tmp_path / "home" / "models"):
        pass


def test_a_full_disk_is_called_so() -> None:
    with pytest.raises(DiskFull, match="no space"), translated(Path("/home/x")), open("/dev/full", "wb", 0) as full:
        full.write(b"x")


def test_an_index_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").mkdir()
    with open_store(tmp_path) as store, pytest.raises(HomeUnusable, match=f"^{tmp_path} cannot be used"):
        store.read_index()
