"""The library knows its models over restarts, notices what happened to their files, and loses nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from meshnode.errors import Conflict, HomeUnusable, ModelFileRefused, ModelNotFound, PortInUse, SourceFailed
from meshnode.models import library as library_module
from meshnode.models.library import Library, open_library
from meshnode.models.pull import PullProgress
from tests.kit.hub import Hub, Served
from tests.kit.tinygguf import hostile_ggufs, write_tiny_gguf


class Home:
    """A home and a user's home beside it, opened as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "home"
        self.user = folder / "user"
        self.hub = "http://127.0.0.1:9"
        self.environ = dict(os.environ)

    def open(
        self, *, default: str | None = None, aliases: dict[str, str] | None = None
    ) -> AbstractAsyncContextManager[Library]:
        """Open the library."""
        return open_library(
            self.path,
            environ=self.environ,
            user_home=self.user,
            now=lambda: 1_800_000_000.5,
            python=sys.executable,
            default=default,
            aliases=aliases,
            hub=self.hub,
            free_space=lambda: 1 << 40,
            pause=trio.sleep,
        )

    def file(self, name: str, *, seed: int = 1) -> Path:
        """A model outside the home."""
        return write_tiny_gguf(self.folder / name, seed=seed)

    def names(self) -> list[str]:
        """What lies in the models' folder."""
        return sorted(os.listdir(self.path / "models"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home that is not there yet."""
    return Home(tmp_path)


async def pull(library: Library, source: str) -> list[PullProgress]:
    """Pull to the end."""
    async with library.pull(source) as progress:
        return [step async for step in progress]


def ids(library: Library) -> list[str]:
    """The ids of all cards."""
    return [card.id for card in library.cards()]


def digest_of(path: Path | str) -> str:
    """Hex sha256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# --- adding, finding, removing ----------------------------------------------------------------


async def test_an_added_file_is_referred_to_and_remembered(home: Home) -> None:
    path = home.file("Talker-F32.gguf")
    async with home.open() as library:
        card = await library.add_file(path)
        assert (card.id, card.path, card.managed, card.added) == ("talker:f32", str(path), False, 1_800_000_000)
        assert card.sha256 == digest_of(path)
    async with home.open() as library:
        assert library.cards() == (card,)
        assert library.resolve("TALKER") == library.resolve(str(path)) == card
        assert (await library.remove("talker")).id == "talker:f32"
        assert library.cards() == ()
    assert path.exists()


async def test_a_file_may_have_two_names(home: Home) -> None:
    path = home.file("Talker-F32.gguf")
    async with home.open() as library:
        await library.add_file(path, name="one")
        again = await library.add_file(path)
        assert again.id == "one:f32"
        other = home.file("Other-F32.gguf")
        assert (await library.add_file(other)).sha256 == again.sha256
        assert ids(library) == ["one:f32", "other:f32"]


async def test_other_weights_of_the_same_name_get_another_id(home: Home) -> None:
    (home.folder / "b").mkdir()
    async with home.open() as library:
        first = await library.add_file(home.file("m-F32.gguf", seed=1))
        second = await library.add_file(home.file("b/m-F32.gguf", seed=2))
        assert (first.id, second.id) == ("m:f32", f"m-{second.sha256[:6]}:f32")


async def test_a_hostile_file_changes_nothing(home: Home) -> None:
    hostile = hostile_ggufs(home.folder)
    async with home.open() as library:
        for name in ("empty", "truncated_data", "absurd_layers"):
            with pytest.raises(ModelFileRefused):
                await library.add_file(hostile[name])
        with pytest.raises(ModelFileRefused, match="cannot be opened"):
            await library.add_file(home.folder / "missing.gguf")
        assert library.cards() == ()


async def test_a_disk_that_fails_while_a_file_is_hashed_costs_the_hash_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(library_module, "sha256_of", failing)
    async with home.open() as library:
        with pytest.raises(ModelFileRefused, match="cannot be read"):
            await library.add_file(home.file("a.gguf"))
        monkeypatch.setattr(library_module, "HASHED_AT_ONCE", 0)
        card = await library.add_file(home.file("b.gguf", seed=2))
        await library.hashes_known()
        assert library.cards() == (card,)
        assert "b.gguf cannot be read" in library.notices[-1]


async def test_a_big_file_is_hashed_in_the_background(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "HASHED_AT_ONCE", 1000)
    path = home.file("big-F32.gguf")
    with trio.fail_after(30):
        async with home.open() as library:
            assert (await library.add_file(path)).sha256 == ""
            await library.hashes_known()
            assert library.resolve("big").sha256 == digest_of(path)
        async with home.open() as library:
            assert library.resolve("big").sha256 == digest_of(path)


async def test_the_default_is_the_owners_choice_then_the_pinned_then_the_first(home: Home) -> None:
    async with home.open() as library:
        with pytest.raises(ModelNotFound, match="meshnode pull default"):
            library.resolve(None)
        await library.add_file(home.file("a-F32.gguf", seed=1))
        await library.add_file(home.file("b-F32.gguf", seed=2))
        assert library.resolve(None).id == "a:f32"
    async with home.open(default="B", aliases={"gpt-4o": "b"}) as library:
        assert library.resolve(None).id == "b:f32"
        assert library.resolve("GPT-4o").id == "b:f32"
    async with home.open(default="nonesuch") as library:
        with pytest.raises(ModelNotFound, match="nonesuch"):
            library.resolve(None)


async def test_the_default_may_be_a_path(home: Home) -> None:
    path = home.file("Chosen-F32.gguf")
    async with home.open(default=str(path)) as library:
        assert library.resolve(None).path == str(path)
    with pytest.raises(ModelFileRefused, match="cannot be opened"):
        async with home.open(default=str(home.folder / "missing.gguf")):
            pass


# --- what happens to files --------------------------------------------------------------------


async def test_a_vanished_file_is_dropped_and_said(home: Home) -> None:
    path = home.file("gone-F32.gguf")
    async with home.open() as library:
        await library.add_file(path)
    path.unlink()
    async with home.open() as library:
        assert library.cards() == ()
        assert library.notices == [f"gone:f32 was dropped: {path} is gone."]
    async with home.open() as library:
        assert library.notices == []


async def test_a_changed_file_is_read_again(home: Home) -> None:
    path = home.file("m-F32.gguf")
    async with home.open() as library:
        before = await library.add_file(path)
        await library.add_file(home.file("other-F32.gguf", seed=9))
    write_tiny_gguf(path, ctx=4096, seed=5)
    with trio.fail_after(30):
        async with home.open() as library:
            after = library.resolve("m")
            assert (before.context_length, after.context_length) == (2048, 4096)
            assert library.resolve(None) == after
            assert "read again" in library.notices[0]
            await library.hashes_known()
            assert library.resolve("m").sha256 == digest_of(path) != before.sha256


async def test_a_file_that_turned_bad_is_dropped(home: Home) -> None:
    path = home.file("m-F32.gguf")
    async with home.open() as library:
        await library.add_file(path)
        path.write_bytes(b"<html>")
        await library.refresh()
        assert library.cards() == ()
        assert "m:f32 was dropped: m-F32.gguf: not a sound GGUF" in library.notices[0]


async def test_a_managed_file_that_changed_is_set_aside(home: Home) -> None:
    async with home.open() as library:
        await pull(library, str(home.file("m-F32.gguf", seed=1)))
        card = library.resolve("m")
    write_tiny_gguf(Path(card.path), seed=2)
    async with home.open() as library:
        assert library.cards() == ()
        assert "set aside" in library.notices[0]
    assert home.names() == [f"{card.sha256}.damaged", "index.json"]


async def test_a_managed_file_only_touched_is_kept(home: Home) -> None:
    async with home.open() as library:
        await pull(library, str(home.file("m-F32.gguf")))
        card = library.resolve("m")
    os.utime(card.path, ns=(1, 1))
    async with home.open() as library:
        assert library.resolve("m").sha256 == card.sha256
        assert library.resolve("m").modified_ns == 1


async def test_a_damaged_index_costs_no_model(home: Home) -> None:
    async with home.open() as library:
        await pull(library, str(home.file("m-F32.gguf")))
    index = home.path / "models" / "index.json"
    index.write_bytes(index.read_bytes()[:-20])
    damaged = index.read_bytes()
    async with home.open() as library:
        assert ids(library) == ["tiny:f32"]
        assert "index.damaged-1.json" in library.notices[0]
    assert (home.path / "models" / "index.damaged-1.json").read_bytes() == damaged


async def test_a_model_put_there_by_hand_is_adopted(home: Home) -> None:
    path = home.file("m.gguf")
    models = home.path / "models"
    models.mkdir(parents=True)
    path.rename(models / f"{digest_of(path)}.gguf")
    (models / f"{'0' * 64}.gguf").symlink_to("/etc/passwd")
    async with home.open() as library:
        (card,) = library.cards()
        assert card.managed
        assert card.sha256 == digest_of(card.path)
        assert "0000" in library.notices[0]


async def test_removing_deletes_what_is_managed(home: Home) -> None:
    async with home.open() as library:
        await pull(library, str(home.file("m-F32.gguf")))
        card = await library.remove("m")
        assert card.managed
        with pytest.raises(ModelNotFound):
            await library.remove("m")
    assert home.names() == ["index.json"]


# --- pulling ----------------------------------------------------------------------------------


async def test_a_pull_ends_with_the_models_id(home: Home, hub: Hub, tiny: bytes) -> None:
    home.hub = hub.url
    hub.add_repository("o/Tiny-GGUF", {"Tiny-F32.gguf": tiny})
    async with home.open() as library:
        steps = await pull(library, "hf:o/Tiny-GGUF:f32")
        assert steps[-1] == PullProgress(phase="done", done=len(tiny), total=len(tiny), model=library.cards()[0].id)
        card = library.resolve("tiny")
        assert (card.source, card.managed) == ("hf:o/Tiny-GGUF:f32", True)
        assert (await pull(library, "hf:o/Tiny-GGUF:f32"))[-1].model == card.id
        assert library.cards() == (card,)


async def test_an_error_comes_out_of_the_iteration_as_itself(home: Home, hub: Hub) -> None:
    async with home.open() as library:
        with pytest.raises(SourceFailed, match="is not a source"):
            await pull(library, "nonesuch")
        with pytest.raises(SourceFailed, match="there is nothing"):
            await pull(library, hub.url + "/missing.gguf")
        with pytest.raises(PortInUse):
            async with library.pull("nonesuch"):
                raise PortInUse("the caller's own")


async def test_the_same_source_is_not_pulled_twice_at_a_time(home: Home, hub: Hub, tiny: bytes) -> None:
    home.hub = hub.url
    served = hub.add_repository("o/r", {"m.gguf": tiny})
    served["m.gguf"].stall_after = 100_000
    with trio.fail_after(30):
        async with home.open() as library, library.pull("hf:o/r") as progress:
            await anext(progress)
            for same in ("hf:o/r", "hf:o/r:m.gguf", hub.url + "/o/r/resolve/main/m.gguf"):
                with pytest.raises(Conflict, match="being pulled already"):
                    await pull(library, same)
            assert len(await pull(library, str(home.file("other.gguf")))) > 1


async def test_leaving_a_pull_keeps_what_came(home: Home, hub: Hub, tiny: bytes) -> None:
    longer = tiny + bytes(4 << 20)
    hub.served["/m.gguf"] = Served(longer, stall_after=3 << 20)
    with trio.fail_after(30):
        async with home.open() as library:
            async with library.pull(hub.url + "/m.gguf") as progress:
                while not (await anext(progress)).done:
                    pass
            hub.served["/m.gguf"] = Served(longer)
            assert (await pull(library, hub.url + "/m.gguf"))[-1].phase == "done"
            assert library.cards()[0].sha256 == hashlib.sha256(longer).hexdigest()
    assert hub.requests[-1].headers["range"] != "bytes=0-"
    assert [name for name in home.names() if ".part" in name] == []


async def test_a_pulled_model_takes_the_place_of_a_referred_one(home: Home) -> None:
    path = home.file("m-F32.gguf")
    async with home.open() as library:
        await library.add_file(path)
        await pull(library, str(path))
        (card,) = library.cards()
        assert card.managed
        assert (await library.add_file(path)).managed


async def test_the_callers_own_errors_leave_the_library_as_themselves(home: Home) -> None:
    with pytest.raises(PortInUse):
        async with home.open():
            raise PortInUse("9337")


async def test_a_home_that_is_a_file_is_said(home: Home) -> None:
    home.path.write_text("not a folder")
    with pytest.raises(HomeUnusable):
        async with home.open():
            pass


# --- scanning ---------------------------------------------------------------------------------


async def test_a_scan_refers_to_what_others_hold(home: Home) -> None:
    models = home.user / ".lmstudio" / "models" / "p" / "r"
    models.mkdir(parents=True)
    path = write_tiny_gguf(models / "Found-F32.gguf")
    (models / "broken.gguf").write_bytes(b"GGUF")
    with trio.fail_after(30):
        async with home.open() as library:
            (card,) = await library.scan()
            assert (card.id, card.path, card.source, card.managed) == ("found:f32", str(path), "lm-studio", False)
            assert "broken.gguf" in library.notices[-1]
            assert [found.id for found in await library.scan()] == ["found:f32"]
            await library.hashes_known()
            assert library.resolve("found").sha256 == digest_of(path)
        assert home.names() == ["index.json"]


async def test_a_scan_believes_the_names_of_blobs(home: Home, tiny: bytes) -> None:
    digest = hashlib.sha256(tiny).hexdigest()
    repository = home.user / ".cache" / "huggingface" / "hub" / "models--o--r"
    blob = repository / "blobs" / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(tiny)
    link = repository / "snapshots" / "abc" / "Tiny-F32.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"../../blobs/{digest}")
    home.environ = {}
    async with home.open() as library:
        (card,) = await library.scan()
        assert (card.id, card.sha256, card.source) == ("tiny:f32", digest, "hub-cache")
