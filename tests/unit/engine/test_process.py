"""Child processes: what they see, and that nothing is left of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshnode.engine.process import exit_reason, start, worker_environment


def test_a_worker_sees_what_drivers_read_and_nothing_else() -> None:
    environ = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_WAIT_POLICY": "passive",
        "OPENAI_API_KEY": "secret",
        "MESHNODE_HOME": "/home/x",
        "HTTPS_PROXY": "http://user:secret@proxy",
        "PYTHONSTARTUP": "/tmp/x.py",
        "LD_PRELOAD": "/tmp/x.so",
    }
    seen = worker_environment(environ)
    assert {"PATH", "CUDA_VISIBLE_DEVICES", "OMP_WAIT_POLICY"} <= seen.keys()
    assert not {"OPENAI_API_KEY", "MESHNODE_HOME", "HTTPS_PROXY", "PYTHONSTARTUP", "LD_PRELOAD"} & seen.keys()
    assert (Path(seen["PYTHONPATH"]) / "meshnode" / "__init__.py").is_file()


async def run(source: str, **environ: str) -> tuple[int, bytes]:
    """Exit status and standard error of a few lines of Python."""
    child = start([sys.executable, "-c", source], environ=environ, stdout=subprocess.DEVNULL)
    with trio.fail_after(20):
        async with child.errors:
            said = b"".join([part async for part in child.errors])
        return await child.wait(), said


async def test_status_and_standard_error_come_back() -> None:
    assert await run("import sys; sys.stderr.write('bye'); sys.exit(7)") == (7, b"bye")
    assert (await run("import os; os.kill(os.getpid(), 9)"))[0] == -9


async def test_a_child_has_its_own_session_only_its_own_variables_and_nothing_to_read() -> None:
    seen = "{os.getsid(0) == os.getpid()} {sorted(os.environ)} {sys.stdin.read()!r}"
    source = f"import os, sys; sys.stderr.write(f{seen!r})"
    assert await run(source, A="1", LC_CTYPE="C.UTF-8") == (0, b"True ['A', 'LC_CTYPE'] ''")


@pytest.mark.parametrize("by_descriptor", [True, False], ids=["by descriptor", "by thread"])
async def test_waiting_can_be_given_up_and_taken_up_again(by_descriptor: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not by_descriptor:
        monkeypatch.delattr(os, "pidfd_open", raising=False)  # not every system has it, nor every Python
    child = start([sys.executable, "-c", "import time; time.sleep(60)"], environ={}, stdout=subprocess.DEVNULL)
    async with child.errors:
        with trio.move_on_after(0.05):
            await child.wait()
        child.kill()
        with trio.fail_after(20):
            assert await child.wait() == -9
            assert await child.wait() == -9
        child.kill()


def test_a_program_that_is_not_there_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        start([str(tmp_path / "none")], environ={}, stdout=subprocess.DEVNULL)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("status", "words"),
    [(1, "exited with status 1"), (-6, "was killed by SIGABRT"), (-9, "was killed by SIGKILL (out of memory?)")],
)
def test_an_exit_status_is_put_in_words(status: int, words: str) -> None:
    assert exit_reason(status) == words


def test_an_unknown_signal_has_its_number() -> None:
    assert exit_reason(-63) == "was killed by signal 63"
