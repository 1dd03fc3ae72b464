"""Both sides of a channel are killed while they settle: nothing acknowledged is lost, and the rest is made good."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from meshnode.ledger.book import Totals
from meshnode.storage.database import open_threaded
from tests.kit.peers import ALICE, BOB
from tests.kit.receipts import C, P, book, times

ROUNDS = 5

SETTLER = """
import pathlib, sys, trio
from meshnode.storage.database import open_threaded
from tests.kit.peers import ALICE, BOB
from tests.kit.receipts import SOME, C, P, book

async def main():
    folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    async with open_threaded(folder / "alice.db") as hers, open_threaded(folder / "bob.db") as his:
        alice, bob = book(hers, ALICE, seed=seed), book(his, BOB)
        ours, theirs = await alice.newest("consumer", P), await bob.newest("provider", C)
        takes = await bob.provide(C, ALICE.peer_id, ours)
        pays = await alice.consume(P, BOB.peer_id, theirs)
        while True:
            await takes.take(await pays.pay(SOME), SOME)
            print((await bob.totals("provider", C)).requests, flush=True)
            if pays.total.requests % 4 == 0:
                await pays.confirm(await takes.countersign())

trio.run(main)
"""


def _settle_and_kill(folder: Path, seed: int, acknowledge: int) -> int:
    """Let them settle at least so many ticks, kill them, and give how many the provider had acknowledged in all."""
    command = [sys.executable, "-c", SETTLER, str(folder), str(seed)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledge)]
        process.kill()
        lines += process.stdout.readlines()
    return max(int(line) for line in lines if line.endswith(b"\n"))


async def test_kill_9_while_settling_loses_nothing_acknowledged(tmp_path: Path) -> None:
    dice = random.Random(7)
    for seed in range(ROUNDS):
        acknowledged = _settle_and_kill(tmp_path, seed, dice.randrange(2, 40))
        async with open_threaded(tmp_path / "alice.db") as hers, open_threaded(tmp_path / "bob.db") as his:
            alice, bob = book(hers, ALICE, seed=99), book(his, BOB)
            signed, earned = await alice.totals("consumer", P), await bob.totals("provider", C)
            assert acknowledged <= earned.requests <= signed.requests <= earned.requests + 1
            await bob.provide(C, ALICE.peer_id, await alice.newest("consumer", P))
            await alice.consume(P, BOB.peer_id, await bob.newest("provider", C))
            assert await alice.totals("consumer", P) == await bob.totals("provider", C) == times(signed.requests)
            assert signed != Totals()
