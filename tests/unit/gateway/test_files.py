"""Files: whole or not there, in pieces, by principal, for their time."""

from __future__ import annotations

import pytest

from meshnode.domain import OWNER, CallerId
from meshnode.errors import BodyTooLarge, InvalidField, NotFound, RateLimited
from meshnode.gateway import files as rules
from meshnode.gateway.files import PIECE_BYTES, Files, StoredFile, head, piece_id
from meshnode.storage.vault import DAY_S, Item
from tests.kit.batches import NOW, Kept, handed, kept

GUEST = CallerId("key:0123456789abcdef")


async def read(files: Files, file: StoredFile, who: CallerId = OWNER) -> bytes:
    """What is in it."""
    return b"".join([data async for data in files.content(who, file)])


async def test_a_large_file_comes_back_as_it_went_in_and_lies_in_bounded_pieces() -> None:
    pieces = [bytes([number]) * (PIECE_BYTES // 2 + 7) for number in range(11)]
    async with kept() as there:
        file = await handed(there.files, *pieces)
        assert await read(there.files, file) == b"".join(pieces)
        assert (file.bytes, file.created, file.expires) == (sum(map(len, pieces)), NOW, NOW + DAY_S)
        page = await there.vault.page(OWNER, rules.PIECE, part_of=file.id, limit=100)
        assert [len(item.data) for item in page.items][:-1] == [PIECE_BYTES] * 5


async def broken_off(there: Kept) -> None:
    """An upload that raises in the middle, after a look at what is to be seen of it."""
    async with there.files.upload(OWNER) as upload:
        await upload.write(b"x" * PIECE_BYTES)
        assert (await there.files.page(OWNER, after=None, limit=9, newest_first=True)).files == ()
        await there.files.file(OWNER, upload.id)


async def test_an_upload_is_not_there_before_it_is_whole_and_gone_where_it_breaks_off() -> None:
    async with kept() as there:
        with pytest.raises(NotFound):
            await broken_off(there)
        assert await there.vault.counts() == {}


async def test_a_file_of_another_version_is_one_lost_file() -> None:
    async with kept() as there:
        odd = Item(principal=OWNER, kind=rules.KIND, id="file-odd", data=b"\xff")
        await there.vault.put(odd)
        file = await handed(there.files, b"whole")
        assert (await there.files.page(OWNER, after=None, limit=1, newest_first=False)).files == (file,)
        with pytest.raises(NotFound, match="lost"):
            await there.files.file(OWNER, odd.id)


async def test_what_a_crash_left_half_way_is_dropped_at_the_next_start() -> None:
    async with kept() as there:
        file = await handed(there.files, b"whole")
        draft = StoredFile(
            id="file-half", filename="", purpose="batch", bytes=0, created=int(NOW), expires=int(NOW) + 9
        )
        await there.vault.put(
            head(OWNER, draft, unfinished=True),
            rules.piece(OWNER, draft.id, 0, b"x"),
            rules.piece(OWNER, "other", 0, b"x"),
        )
        await there.files.drop_unfinished()
        assert await there.vault.counts() == {"file": 1, "file_piece": 2}
        assert await read(there.files, file) == b"whole"


async def test_an_empty_file_is_refused() -> None:
    async with kept() as there:
        with pytest.raises(InvalidField, match="empty"):
            await handed(there.files)
        assert await there.vault.counts() == {}


async def test_another_principals_file_is_not_there() -> None:
    async with kept() as there:
        file = await handed(there.files, b"mine")
        for who in (GUEST, CallerId("")):
            with pytest.raises(NotFound):
                await there.files.file(who, file.id)
            with pytest.raises(NotFound):
                await there.files.delete(who, file.id)
            with pytest.raises(NotFound):
                await read(there.files, file, who)
        assert (await there.files.page(GUEST, after=None, limit=9, newest_first=True)).files == ()
        assert await there.files.file(OWNER, file.id) == file


async def test_a_file_whose_time_is_over_is_not_there_and_its_content_goes_when_that_is_seen() -> None:
    async with kept() as there:
        file = await handed(there.files, b"brief", lasts_s=3600)
        other = await handed(there.files, b"longer", lasts_s=7200)
        there.wall.now += 3600
        page = await there.files.page(OWNER, after=None, limit=9, newest_first=True)
        assert page.files == (other,)
        with pytest.raises(NotFound):
            await there.files.file(OWNER, file.id)
        assert await there.vault.counts() == {"file": 1, "file_piece": 1}
        there.wall.now += 3600
        await handed(there.files, b"new")
        assert await there.vault.counts() == {"file": 1, "file_piece": 1}


async def test_a_deleted_or_damaged_piece_is_an_error_and_not_a_shorter_file() -> None:
    async with kept() as there:
        file = await handed(there.files, *[b"x" * PIECE_BYTES] * 6)
        content = there.files.content(OWNER, file)
        await anext(content)
        await there.vault.delete(OWNER, rules.PIECE, piece_id(file.id, 5))
        with pytest.raises(NotFound, match="damaged"):
            async for _ in content:
                pass
        await there.files.delete(OWNER, file.id)
        with pytest.raises(NotFound):
            await there.files.content(OWNER, file).look_ahead()


async def test_pages_are_full_although_some_files_are_not_shown() -> None:
    async with kept() as there:
        files = []
        for number in range(6):
            files.append(await handed(there.files, b"x", lasts_s=3600 if number % 2 else 7200))
        there.wall.now += 3600
        first = await there.files.page(OWNER, after=None, limit=2, newest_first=False)
        rest = await there.files.page(OWNER, after=first.files[-1].id, limit=2, newest_first=False)
        assert [*first.files, *rest.files] == files[::2]
        assert first.more
        none = await there.files.page(OWNER, after=None, limit=2, newest_first=False, purpose="batch_output")
        assert none == ((), False)


async def test_one_principal_has_so_many_files_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_FILES", 3)
    monkeypatch.setattr(rules, "MOST_KEPT", 10)
    async with kept() as there:
        await handed(there.files, b"12345")
        with pytest.raises(BodyTooLarge):
            await handed(there.files, b"123456")
        await handed(there.files, b"1", who=GUEST)
        await handed(there.files, b"2")
        await handed(there.files, b"3")
        with pytest.raises(RateLimited):
            await handed(there.files, b"4")
        assert (await there.vault.counts())["file"] == 4
