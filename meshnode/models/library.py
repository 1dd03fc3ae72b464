"""The models this node knows: managed files in the home, and files elsewhere that are only referred to.

``async with open_library(home, …) as library``. What was known is read from the index; a file that vanished is
dropped and one that changed is read again, each with a line in :attr:`Library.notices`. Hashes of big files that
nobody vouches for are computed in the background and entered when they are known.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import structlog
import trio

from meshnode.domain import ModelCard, ModelId
from meshnode.errors import MeshnodeError, ModelFileRefused, ModelNotFound
from meshnode.models.arriving import Arrival, Arrivals
from meshnode.models.card import open_model, read_card, unchanged, unreadable
from meshnode.models.catalogue import DEFAULT
from meshnode.models.hasher import Hasher
from meshnode.models.hashing import sha256_of
from meshnode.models.names import distinct_id, match, unaliased
from meshnode.models.pull import PullProgress, Report, Surroundings, pull_into
from meshnode.models.registry import sweep
from meshnode.models.scan import Found, Place, find_models, places
from meshnode.models.sources import FileSource, Source, describe_source, parse_source
from meshnode.models.store import Store, open_store, part_key
from meshnode.models.watch import alongside, watched

HASHED_AT_ONCE = 2 << 30
"""Files up to this size (bytes) are hashed before :meth:`Library.add_file` returns; bigger ones in the background."""
MAX_NOTICES = 100
PARTS_KEPT_S = 30 * 86400
"""How long an unfinished fetch is kept for somebody to go on with."""

Note = Callable[[str, Mapping[str, str | int | float]], Awaitable[None]]
"""Hears a fact: its kind and its fields."""

log = structlog.get_logger()


async def _unnoted(kind: str, fields: Mapping[str, str | int | float]) -> None:
    """Nobody keeps facts."""


class Library:
    """See the module. Made by :func:`open_library`; its methods are for one event loop."""

    def __init__(
        self,
        store: Store,
        around: Surroundings,
        looked_in: list[Place],
        *,
        default: str | None,
        aliases: Mapping[str, str],
        now: Callable[[], float],
        note: Note,
    ) -> None:
        self._store = store
        self._around = around
        self._places = looked_in
        self._default = default
        self._aliases = aliases
        self._now = now
        self._note = note
        self._cards: dict[ModelId, ModelCard] = {}
        self._changing = trio.Lock()
        self._hasher = Hasher()
        self._arrivals = Arrivals()
        self.notices: list[str] = []
        """What happened to models by itself, newest last: for ``status`` and the log."""

    # --- asking -------------------------------------------------------------------------------

    def cards(self) -> tuple[ModelCard, ...]:
        """Every model known, in the order they came."""
        return tuple(self._cards.values())

    def resolve(self, name: str | None) -> ModelCard:
        """The model a user means: an id, a name, an alias, the path of a known file; ``None`` means the default.

        The default is the owner's choice, else the pinned default model, else the first. Raises ModelNotFound.
        """
        if name is None:
            return self._default_card()
        return self._at(name) or match(name, self.cards(), self._aliases, default=DEFAULT.id)

    @property
    def arrivals(self) -> Arrivals:
        """What is being fetched now."""
        return self._arrivals

    def arriving(self, name: str | None) -> Arrival | None:
        """The fetch under way after which ``name`` (``None``: the default) will be a model here, if there is one."""
        if name is None:
            name = self._default
        return self._arrivals.of(None if name is None else unaliased(name, self._aliases))

    def _at(self, path: str) -> ModelCard | None:
        return next((card for card in self._cards.values() if card.path == path), None)

    def _default_card(self) -> ModelCard:
        if self._default is not None:
            return self.resolve(self._default)
        if not self._cards:
            raise ModelNotFound("there are no models here.", hint="Fetch one: meshnode pull default", param="model")
        return self._cards.get(DEFAULT.id) or next(iter(self._cards.values()))

    # --- changing -----------------------------------------------------------------------------

    async def add_file(self, path: Path, *, name: str | None = None) -> ModelCard:
        """Refer to a GGUF where it lies. Raises ModelFileRefused."""
        real = _absolute(path)
        known = self._at(str(real))
        if known is not None and name is None and await trio.to_thread.run_sync(unchanged, known):
            return known
        card = await self._read(real, name=name or "", source=str(real))
        if card.size <= HASHED_AT_ONCE:
            card = msgspec.structs.replace(card, sha256=await self._hashed(card))
        return await self._enter(card, replaces=None if known is None else known.id)

    async def remove(self, name: str) -> ModelCard:
        """Forget a model, and delete its file if it is a managed one that no other name uses. Raises ModelNotFound."""
        async with self._change():
            card = self.resolve(name)
            del self._cards[card.id]
            # The file first: on a full disk there is no room for the index before it is gone.
            if card.managed and self._at(card.path) is None:
                await trio.to_thread.run_sync(self._store.remove, card.sha256)
        log.info("model_removed", model=card.id, deleted=card.managed)
        await self._note("model_removed", {"model": card.id})
        return card

    async def scan(self) -> list[ModelCard]:
        """Refer to every model that Ollama, LM Studio, the hub cache or llama.cpp hold here; gives their cards.

        What cannot be read goes into :attr:`notices`, not up.
        """
        await self.refresh()
        found, problems = await trio.to_thread.run_sync(find_models, self._places)
        for problem in problems:
            self._notice(f"{problem.path}: {problem.reason}", event="model_scan_problem")
        cards = []
        for item in found:
            card = await self._scanned(item)
            if card is not None:
                cards.append(card)
        return cards

    async def _scanned(self, item: Found) -> ModelCard | None:
        known = self._at(str(item.path))
        if known is not None:
            return known
        try:
            card = await self._read(item.path, name=item.name, sha256=item.sha256, source=item.source)
        except ModelFileRefused as error:
            self._notice(f"{item.path}: {error.message}", event="model_scan_problem")
            return None
        return await self._enter(card)

    @contextlib.asynccontextmanager
    async def pull(self, source: str) -> AsyncIterator[AsyncIterator[PullProgress]]:
        """Bring a model into the home (forms: :mod:`meshnode.models.sources`); iterate to watch, leave to stop.

        The last item has phase ``done`` and the model's id. Errors come out of the iteration: SourceFailed, DiskFull,
        ModelFileRefused, or Conflict while the same source is being pulled.
        """

        async def task(report: Report) -> None:
            await self._pulled(source, report)

        async with watched(task) as progress:
            yield progress

    async def _pulled(self, text: str, report: Report) -> None:
        source = parse_source(text)
        if isinstance(source, FileSource):
            source = FileSource(path=str(_absolute(source.path)))
        shown = describe_source(source)
        try:
            with self._arrivals.under_way(source, shown) as arrival:
                card = await self._brought_in(source, shown, arrival.telling(report))
        except MeshnodeError as error:
            log.warning("model_pull_failed", source=shown, code=error.code, reason=error.message)
            raise
        log.info("model_pulled", model=card.id, size=card.size, source=shown)
        await report(PullProgress(phase="done", done=card.size, total=card.size, model=card.id))

    async def _brought_in(self, source: Source, shown: str, report: Report) -> ModelCard:
        pulled = await pull_into(self._store, source, self._around, report)
        path = self._store.path(pulled.digest)
        for known in self._cards.values():
            if known.path == str(path) and pulled.id in (None, known.id):
                return known
        card = await self._read(path, name=pulled.name, id=pulled.id, sha256=pulled.digest, source=shown, managed=True)
        return await self._enter(card)

    # --- keeping the index true -----------------------------------------------------------------

    async def refresh(self) -> None:
        """Look at every known file again: drop what vanished, read again what changed, adopt managed files unknown."""
        async with self._changing:
            before = self.cards()
            for card in before:
                if not await trio.to_thread.run_sync(unchanged, card):
                    await self._look_again(card)
            await self._adopt()
            if self.cards() != before:
                await self._save()
        self._hasher.later(self._cards.values())

    async def _look_again(self, card: ModelCard) -> None:
        if not await trio.to_thread.run_sync(os.path.exists, card.path):
            del self._cards[card.id]
            self._notice(f"{card.id} was dropped: {card.path} is gone.", event="model_vanished")
            return
        try:
            fresh = await self._read(Path(card.path), id=card.id, source=card.source, managed=card.managed)
            if card.managed and await self._hashed(fresh) != card.sha256:
                aside = await trio.to_thread.run_sync(self._store.set_aside, card.sha256)
                raise ModelFileRefused(f"its content changed; it was set aside as {aside}.")
        except MeshnodeError as error:
            del self._cards[card.id]
            self._notice(f"{card.id} was dropped: {error.message}", event="model_damaged")
            return
        self._cards[card.id] = msgspec.structs.replace(
            fresh, added=card.added, sha256=card.sha256 if card.managed else ""
        )
        if not card.managed:
            self._notice(f"{card.id} was read again: {card.path} has changed.", event="model_changed")

    async def _adopt(self) -> None:
        """Enter managed files that no card knows: a crash came between file and index, or someone put them there."""
        known = {card.sha256 for card in self._cards.values() if card.managed}
        for digest in await trio.to_thread.run_sync(self._store.digests):
            if digest in known:
                continue
            path = self._store.path(digest)
            try:
                await trio.to_thread.run_sync(self._store.check, digest)
                fixed = DEFAULT.id if digest == DEFAULT.sha256 else None
                card = await self._read(path, name="model", id=fixed, sha256=digest, managed=True)
            except ModelFileRefused as error:
                self._notice(f"{path}: {error.message}", event="model_damaged")
                continue
            self._insert(card)

    async def _enter(self, card: ModelCard, *, replaces: ModelId | None = None) -> ModelCard:
        """Insert a card and save; gives it as it was entered."""
        async with self._change():
            if replaces is not None:
                self._cards.pop(replaces, None)
            entered = self._insert(card)
        self._hasher.later([entered])
        log.info("model_added", model=entered.id, size=entered.size, managed=entered.managed)
        await self._note("model_added", {"model": entered.id, "size": entered.size})
        return entered

    def _insert(self, card: ModelCard) -> ModelCard:
        same = self._cards.get(card.id)
        if same is not None and same.path != card.path:
            if card.sha256 and same.sha256 == card.sha256:
                if same.managed:
                    return same
            else:
                digest = card.sha256 or part_key(card.path)
                card = msgspec.structs.replace(card, id=distinct_id(card.id, digest, {card.id: same.sha256 or "-"}))
        self._cards[card.id] = card
        return card

    @contextlib.asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        """Change the cards one at a time; saved at the end, and as before if that or the change fails."""
        async with self._changing:
            before = dict(self._cards)
            try:
                yield
                await self._save()
            except BaseException:
                self._cards = before
                raise

    async def _save(self) -> None:
        await trio.to_thread.run_sync(self._store.write_index, self.cards())

    async def _read(
        self,
        path: Path,
        *,
        name: str = "",
        id: ModelId | None = None,  # noqa: A002  the card's own word
        sha256: str = "",
        source: str = "",
        managed: bool = False,
    ) -> ModelCard:
        added = int(self._now())
        return await trio.to_thread.run_sync(
            lambda: read_card(path, name=name, id=id, sha256=sha256, source=source, added=added, managed=managed)
        )

    # --- hashes -------------------------------------------------------------------------------

    async def _hashed(self, card: ModelCard) -> str:
        """The sha256 of a model's file. Raises ModelFileRefused, also where the disk it lies on fails meanwhile."""
        with open_model(Path(card.path)) as file:
            try:
                return await sha256_of(file, card.size)
            except OSError as error:
                raise unreadable(Path(card.path), error) from error

    async def hash_in_background(self) -> None:
        """Compute hashes that are missing, one file after another, until cancelled."""
        await self._hasher.run(self._hash_one)

    async def hashes_known(self) -> None:
        """Wait until no hash is being computed."""
        await self._hasher.settled()

    async def _hash_one(self, model: ModelId) -> None:
        card = self._cards.get(model)
        if card is None or card.sha256:
            return
        try:
            await self._enter_hash(card, await self._hashed(card))
        except MeshnodeError as error:
            self._notice(f"{card.id}: {error.message}", event="model_hash_failed")

    async def _enter_hash(self, card: ModelCard, digest: str) -> None:
        async with self._change():
            if self._cards.get(card.id) == card and await trio.to_thread.run_sync(unchanged, card):
                self._cards[card.id] = msgspec.structs.replace(card, sha256=digest)

    def _notice(self, text: str, *, event: str) -> None:
        log.warning(event, reason=text)
        self.notices[:] = [*self.notices[-MAX_NOTICES + 1 :], text]

    async def load(self) -> None:
        """Read the index, keeping a damaged one aside, and look at every file."""
        try:
            cards = await trio.to_thread.run_sync(self._store.read_index)
        except ModelFileRefused as error:
            aside = await trio.to_thread.run_sync(self._store.set_index_aside)
            self._notice(f"{error.message} It was kept as {aside} and begun anew.", event="model_index_damaged")
            cards = ()
        self._cards = {card.id: card for card in cards}
        await self.refresh()
        if self._default is not None and _is_path(self._default):
            self._default = (await self.add_file(Path(self._default))).id


def _absolute(path: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith("~") or text.lower().endswith(".gguf")


@contextlib.asynccontextmanager
async def open_library(
    home: Path,
    *,
    environ: Mapping[str, str],
    user_home: Path,
    now: Callable[[], float],
    python: str,
    default: str | None = None,
    aliases: Mapping[str, str] | None = None,
    hub: str = "https://huggingface.co",
    free_space: Callable[[], int] | None = None,
    pause: Callable[[float], Awaitable[None]] = trio.sleep,
    stall_s: float = 30.0,
    note: Note = _unnoted,
) -> AsyncIterator[Library]:
    """Open the library of ``home``. Raises HomeUnusable, DiskFull, or ModelFileRefused (a ``default`` that is a path).

    ``default`` is ``engine.model``: a name, or a path that is added. ``environ`` and ``user_home`` say where other
    programs keep models and hold the hub's token; ``python`` is the interpreter whose pip fetches the default model;
    ``now`` gives seconds since 1970; ``free_space`` the bytes free where the home is; ``note`` hears of models added
    and removed, as facts.
    """
    folder = home / "models"
    with open_store(folder) as store:
        await trio.to_thread.run_sync(sweep, folder)
        await trio.to_thread.run_sync(store.forget_parts, now() - PARTS_KEPT_S)
        room = free_space or (lambda: shutil.disk_usage(folder).free)
        around = Surroundings(hub, environ, python, room, pause, stall_s)
        looked_in = places(user_home, environ)
        library = Library(store, around, looked_in, default=default, aliases=aliases or {}, now=now, note=note)
        await library.load()
        async with alongside(library.hash_in_background):
            yield library
