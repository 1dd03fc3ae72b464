"""A process that writes without end is killed: what it had acknowledged is there, and nothing half done."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from meshnode.storage.database import Connection, open_threaded

ROUNDS = 6

WRITER = """
import pathlib, sys, trio
from meshnode.storage.database import open_threaded

def pair(number):
    def write(connection):
        connection.execute("INSERT INTO entry VALUES (?)", (2 * number,))
        connection.execute("INSERT INTO entry VALUES (?)", (2 * number + 1,))
    return write

def table(connection):
    connection.execute("CREATE TABLE IF NOT EXISTS entry (number INTEGER PRIMARY KEY)")

async def main():
    async with open_threaded(pathlib.Path(sys.argv[1])) as database:
        await database.write(table)
        number = int(sys.argv[2])
        while True:
            await database.write(pair(number))
            print(number, flush=True)
            number += 1

trio.run(main)
"""


def _numbers(connection: Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM entry ORDER BY number")]


def _write_and_kill(path: Path, start: int, acknowledge: int) -> int:
    """Let a writer acknowledge at least so many pairs, kill it, and give the last number it acknowledged."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(acknowledge):
            assert process.stdout.readline()
        process.kill()
        last = process.stdout.read().split(b"\n")
    whole = [int(line) for line in last[:-1] if line]
    return max([start + acknowledge - 1, *whole])


async def test_kill_9_in_a_write_loop_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path, dice, start = tmp_path / "meshnode.db", random.Random(5), 0
    for _ in range(ROUNDS):
        last = _write_and_kill(path, start, dice.randrange(1, 60))
        async with open_threaded(path) as database:
            numbers = await database.read(_numbers)
        assert len(numbers) % 2 == 0
        assert numbers == list(range(len(numbers)))
        assert len(numbers) // 2 > last
        start = len(numbers) // 2
