"""The settlement under SIGKILL: a consumer and a provider, killed at random moments, and what must hold all the same.

Both are real processes with real files and sockets. They are forked from this one, which has read the code already, so
that starting one again takes milliseconds; nothing else is shared. What is checked is in :mod:`harness.judge`; when a
kill strikes depends on the machine too, so a seed makes a run alike, not the same.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, NoReturn

import structlog
import trio

from harness.consumer import consume
from harness.diary import POINTS, Ended, Fact, Met, Reader, Row, Stored, now
from harness.judge import DAMAGED, DIED, STUCK, Judge, Stake
from harness.parties import Place
from harness.provider import provide
from harness.report import Round, show
from meshnode.errors import MeshnodeError, PaymentRequired
from meshnode.ledger import channel as rows
from meshnode.storage.database import Connection, open_inline

BACK_S: Final = 20.0
"""So long both may take after a kill until the provider stores a receipt again."""
END_S: Final = 60.0
STRIKE_S: Final = 0.5
"""A kill strikes within so long after the provider has stored something again, or (BLIND) after the start."""
BLIND: Final = 0.2
"""The share of kills that do not wait until the two have met."""
POINTED: Final = 0.3
"""The share of kills of one process that strike at a point of its code, where chance would seldom hit."""
POINT_S: Final = 2.0
IN_DEBT: Final = f"refused:{PaymentRequired.code}"
VICTIMS: Final = {("consumer",): 4, ("provider",): 4, ("consumer", "provider"): 1, ("provider", "consumer"): 1}
_PR_SET_PDEATHSIG: Final = 1
"""From ``linux/prctl.h``: nobody outlives this process, however that ends."""


class Cast:
    """The two processes, and their diaries as far as they were read."""

    def __init__(self, folder: Path, streams: int, seed: str) -> None:
        self.judge = Judge()
        self.starts: list[float] = []
        """Seconds from a start to the end of the greeting."""
        self.lost_at: list[float] = []
        """When the provider alone was killed."""
        self.stored = 0
        """Receipts that the provider stored so far."""
        self.in_debt = False
        """Whether the provider, for whom the consumer died too often, gives no more; its next run forgets that."""
        self._folder = folder
        self._streams = streams
        self._seed = seed
        self._runs: Counter[str] = Counter()
        self._pids: dict[str, int] = {}
        self._readers: dict[str, Reader] = {}
        self._started: dict[str, float] = {}
        for role in ("consumer", "provider"):
            (folder / role).mkdir()

    def start(self, role: str) -> None:
        """Start it, on the home that it had."""
        self._runs[role] += 1
        self.in_debt = self.in_debt and role == "consumer"
        place = Place(self._folder, role, self._runs[role])
        self._started[role] = now()
        self._readers[role] = Reader(place.diary)
        pid = os.fork()
        if pid == 0:
            _become(place, self._streams, self._seed)
        self._pids[role] = pid

    def kill(self, *roles: str) -> None:
        """SIGKILL, one right after the other; then what they noted and hold is judged."""
        if roles == ("provider",):
            self.lost_at.append(now())
        for role in roles:
            os.kill(self._pids[role], signal.SIGKILL)
        for role in roles:
            self._bury(role, signal.SIGKILL)

    def doom(self, role: str, point: str, *, start: bool) -> bool:
        """Let it die at a point of its code, once it comes there; False if it does not come there soon, and is killed.

        With ``start`` it is not running yet.
        """
        doom = Place(self._folder, role, 0).doom
        doom.write_text(point)
        if start:
            self.start(role)
        deadline = now() + POINT_S
        while now() < deadline and not _ended(self._pids[role]):
            time.sleep(0.001)
        doom.unlink()
        came = _ended(self._pids[role])
        self.kill(role)
        return came

    def stop(self, role: str) -> None:
        """SIGTERM, and time to settle."""
        os.kill(self._pids[role], signal.SIGTERM)
        deadline = now() + END_S
        while now() < deadline and not _ended(self._pids[role]):
            time.sleep(0.01)
        if now() >= deadline:
            self.judge.breach(STUCK, f"the {role} did not end within {END_S:g} s of SIGTERM")
            os.kill(self._pids[role], signal.SIGKILL)
        self._bury(role, None)

    def read(self) -> None:
        """Judge what was noted since the last time."""
        news = self._readers[
            "provider"
        ].news()  # before the consumer's: nothing here was signed later than that is read
        self._look_for_greeting("consumer", ours := self._readers["consumer"].news())
        self._look_for_greeting("provider", news)
        self.judge.take("consumer", ours)
        self.judge.take("provider", news)
        stored = sum(isinstance(fact, Stored) for fact in news)
        refused = any(isinstance(fact, Ended) and fact.how == IN_DEBT for fact in ours)
        self.stored += stored
        self.in_debt = not stored and (self.in_debt or refused)

    def alive(self) -> bool:
        """Whether neither has ended by itself."""
        return not any(_ended(pid) for pid in self._pids.values())

    def end(self) -> None:
        """Nothing of them is left."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _bury(self, role: str, by: int | None) -> None:
        _, status = os.waitpid(self._pids.pop(role), 0)
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if killed != by and not (by is None and killed == signal.SIGTERM):
            words = Place(self._folder, role, 0).log.read_text(errors="replace")[-2000:]
            self.judge.breach(DIED, f"the {role}, with status {status}: {words}")
        self.read()
        self._autopsy(role)

    def _autopsy(self, role: str) -> None:
        """Look into a copy of the database, so that the process itself recovers what lies there."""
        database = Place(self._folder, role, 0).database
        copy = self._folder / "copy.db"
        for suffix in ("", "-wal"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
            if (path := database.with_name(database.name + suffix)).exists():
                shutil.copyfile(path, copy.with_name(copy.name + suffix))
        if database.exists():
            try:
                verdict, found = trio.run(_examine, copy)
            except MeshnodeError as error:
                verdict, found = str(error), []
            if verdict != "ok":
                self.judge.breach(DAMAGED, f"the {role}'s: {verdict}")
            self.judge.look(role, found)

    def _look_for_greeting(self, role: str, news: list[Fact]) -> None:
        for fact in news:
            if isinstance(fact, Met) and role in self._started:
                self.starts.append(fact.at - self._started.pop(role))


def _become(place: Place, streams: int, seed: str) -> NoReturn:
    """The rest of a forked process's life."""
    status = 70
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for fd in (1, 2):
            os.dup2(log, fd)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        if place.role == "consumer":
            trio.run(consume, place, streams, seed)
        else:
            trio.run(provide, place)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _ended(pid: int) -> bool:
    """Whether a child is a zombie; it stays one."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


async def _examine(path: Path) -> tuple[str, list[Row]]:
    """What SQLite says of a database, and its channels. Raises what opening raises."""

    def read(connection: Connection) -> tuple[str, list[Row]]:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        found = [
            Row(c.chan, c.seq, c.total.uc, c.total.prompt, c.total.output, c.total.requests, c.confirmed_uc)
            for c in rows.everything(connection)
        ]
        return str(verdict), found

    async with open_inline(path) as database:
        return await database.read(read)


# --- the play -------------------------------------------------------------------------------------


class Given(NamedTuple):
    """What is asked for."""

    kills: int
    seed: int
    progress: bool


def play(given: Given, streams: int, folder: Path) -> Round:
    """So many kills of a consumer with so many streams and its provider."""
    began, dice = now(), Random(f"{given.seed} {streams}")
    cast = Cast(folder, streams, f"{given.seed} {streams}")
    kills: Counter[str] = Counter()
    stakes: list[Stake] = []
    try:
        cast.start("provider")
        cast.start("consumer")
        for number in range(given.kills):
            _wait(cast, dice)
            victims = dice.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
            if cast.in_debt and victims == ("consumer",):
                victims = ("provider",)
            kills["both" if len(victims) == 2 else victims[0]] += 1
            kills.update(_strike(cast, victims, dice))
            for role in victims:
                cast.start(role)
            if given.progress:
                _tell(number + 1, given.kills, streams, cast.judge)
        _until_stored(cast)
        if cast.in_debt:
            cast.kill("provider")
            cast.start("provider")
            _until_stored(cast)
        cast.stop("consumer")
        cast.stop("provider")
        stakes = cast.judge.close()
    finally:
        cast.end()
    return Round(streams, now() - began, kills, cast.judge, stakes, cast.starts, cast.lost_at)


def _strike(cast: Cast, victims: tuple[str, ...], dice: Random) -> list[str]:
    """Kill them now, or one at a point of its code; gives the points that were come to, and kills more than the one."""
    if len(victims) == 2 or dice.random() >= POINTED:
        cast.kill(*victims)
        return []
    (role,) = victims
    point = dice.choice(POINTS[role])
    again = point is Met  # it greets only once, so it has to die of something else before
    if again:
        cast.kill(role)
    came = cast.doom(role, point.__name__, start=again)
    return [point.__name__] * came + [role] * again


def _wait(cast: Cast, dice: Random) -> None:
    """Until the moment of the next kill."""
    if dice.random() >= BLIND:
        _until_stored(cast)
    time.sleep(dice.random() * STRIKE_S)
    if not cast.alive():
        cast.judge.breach(DIED, "before it was killed")


def _until_stored(cast: Cast) -> None:
    """Until the provider stores a receipt again, or refuses to give more before it is paid."""
    cast.read()
    before, deadline = cast.stored, now() + BACK_S
    while cast.stored == before and not cast.in_debt and now() < deadline:
        time.sleep(0.01)
        cast.read()
    if cast.stored == before and not cast.in_debt:
        cast.judge.breach(STUCK, f"no receipt within {BACK_S:g} s")


def _tell(done: int, of: int, streams: int, judge: Judge) -> None:
    if sys.stderr.isatty():
        breaches = judge.counts.total()
        print(f"\r{streams} streams: {done} of {of} kills, {breaches} breaches ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Play it for each number of streams, and show the table; exits 1 when anything was violated."""
    parser = argparse.ArgumentParser(prog="kill_settlement", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500, help="kills for each number of streams [500]")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16], help="requests at a time [1 16]")
    parser.add_argument("--seed", type=int, default=1, help="of prompts, of victims, and of moments [1]")
    parser.add_argument("--keep", type=Path, help="leave diaries and databases in this folder")
    given = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory(prefix="meshnode-kill-") as scratch:
        for streams in given.streams:
            folder = (given.keep or Path(scratch)) / str(streams)
            folder.mkdir(parents=True)
            rounds.append(play(Given(given.kills, given.seed, True), streams, folder))
    show(rounds, given.seed)
    sys.exit(1 if any(each.judge.counts for each in rounds) else 0)
