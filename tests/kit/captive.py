"""``python -m tests.kit.captive FD MODEL FOLDER [--no-sandbox]``: a worker's rights, tried from inside.

Goes through both stages of :mod:`meshnode.engine.confine`, as a worker for MODEL does, then tries what code that took
the process over would try, and says on FD, as JSON, how each attempt ended: ``done``, or the name of the error.
FOLDER is somebody's: it holds ``secret``, and ``made`` is not in it.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from meshnode.domain import Stopping
from meshnode.engine.confine import confine
from meshnode.engine.kernel import system_call
from meshnode.engine.pipe import Load
from meshnode.engine.syscalls import MACHINES
from tests.kit.driven import Driven, chatting
from tests.kit.worker_process import ENVIRONMENT, PATIENCE_S

Attempt = Callable[[], object]


def tried(model: Path, folder: Path, *options: str) -> dict[str, str]:
    """What came of every attempt, in a process of its own whose parent this one is."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as told:
        command = [sys.executable, "-m", "tests.kit.captive", str(writer), str(model), str(folder), *options]
        try:
            subprocess.run(command, env=ENVIRONMENT, pass_fds=[writer], check=True, timeout=PATIENCE_S)
        finally:
            os.close(writer)
        found: dict[str, str] = json.loads(told.read())
    return found


def _outcome(attempt: Attempt) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ImportError as error:
        return str(error)
    return "done"


def attempts(model: Path, folder: Path) -> dict[str, Attempt]:
    """What is tried, by name."""
    return _network() | _files(model, folder) | _processes()


def _network() -> dict[str, Attempt]:
    kinds = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK)
    return {f"socket {kind.name}": partial(_socket, kind) for kind in kinds}


def _socket(family: socket.AddressFamily) -> None:
    kind = socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_STREAM
    socket.socket(family, kind).close()


def _files(model: Path, folder: Path) -> dict[str, Attempt]:
    secret = folder / "secret"
    return {
        "read a file": secret.read_bytes,
        "list a folder": lambda: os.listdir(folder),
        "list the home": lambda: os.listdir(Path.home()),
        "read the hosts": Path("/etc/hosts").read_bytes,
        "write a new file": lambda: (folder / "new").write_bytes(b""),
        "write a file": lambda: secret.open("r+b").close(),
        "write the model": lambda: model.open("r+b").close(),
        "write to shared memory": lambda: _make_and_remove(Path("/dev/shm") / f"captive-{os.getpid()}"),
        "make a folder": lambda: (folder / "made").mkdir(),
        "change a file's rights": lambda: secret.chmod(0o600),
        "rename a file": lambda: secret.rename(folder / "renamed").rename(secret),
        "read a file in a thread": lambda: _in_thread(secret.read_bytes),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "become a program": lambda: os.execv("/none", ["none"]),
    }


def _make_and_remove(path: Path) -> None:
    path.write_bytes(b"x")
    path.unlink()


def _processes() -> dict[str, Attempt]:
    parent = os.getppid()
    return {
        "fork": _fork,
        "signal the parent": lambda: os.kill(parent, 0),
        "read the parent's memory": lambda: os.open(f"/proc/{parent}/mem", os.O_RDWR),
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "list the parent's files": lambda: os.listdir(f"/proc/{parent}/fd"),
        "read a stranger's command": Path("/proc/1/cmdline").read_bytes,
    }


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _in_thread(attempt: Attempt) -> None:
    raised: list[OSError] = []

    def run() -> None:
        try:
            attempt()
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


WITHOUT_ARGUMENTS = frozenset({"fork", "vfork", "vhangup"})
"""Calls that nonsense for arguments does not keep from doing something where nothing refuses them."""


def unrefused() -> list[str]:
    """Calls of the filter's list that fail with something else than EPERM when given nonsense."""
    calls = MACHINES[os.uname().machine].refused
    return [name for name, number in calls.items() if name not in WITHOUT_ARGUMENTS and not _refused(number)]


def _refused(number: int) -> bool:
    try:
        system_call(number, *(-1,) * 6)
    except OSError as error:
        return error.errno == errno.EPERM
    return False


LATE = [name for name in ("wave", "sqlite3", "llguidance", "jinja2.debug") if importlib.util.find_spec(name)]
"""Modules that nothing here has imported yet."""


def still(model: Path) -> dict[str, Attempt]:
    """What must go on working."""
    return {
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "start a thread": lambda: _in_thread(lambda: None),
        "import late": lambda: [importlib.import_module(name) for name in LATE],
        "take entropy": lambda: Path("/dev/urandom").open("rb").read(8),
        "read the memory's state": Path("/proc/meminfo").read_bytes,
        "answer with the model's template": lambda: _answer(model),
    }


def _answer(model: Path) -> None:
    from meshnode.engine.llama.loading import open_llama

    backend = open_llama(Load(path=str(model), n_ctx=256, n_seq_max=2, threads=2, gpu_layers=0))
    text = Driven(backend).ask(chatting("Say hello.", stopping=Stopping(max_tokens=8, ignore_eos=True)))
    assert text


def main(fd: int, model: Path, folder: Path, *options: str) -> None:
    """Be confined, try, tell."""
    sandbox = confine(fd, sandbox=not options)
    sandbox.close_in(str(model))
    found = {name: _outcome(attempt) for name, attempt in (attempts(model, folder) | still(model)).items()}
    found["layers"] = " ".join(sandbox.layers)
    found["missing"] = " ".join(sandbox.missing)
    if not options:
        found["unrefused"] = " ".join(unrefused())
    os.write(fd, json.dumps(found).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
