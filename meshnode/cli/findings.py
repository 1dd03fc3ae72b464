"""What `meshnode doctor` makes of what it saw: what is fine, what is not, and the step that mends it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from meshnode.cli.show import size
from meshnode.client_records import ModelStatus
from meshnode.domain import Record
from meshnode.engine.hardware import Accelerator, Seen, judge
from meshnode.engine.threads import Cores, described, proposed
from meshnode.errors import MeshnodeError

Level = Literal["ok", "warning", "problem"]

LITTLE_DISK: Final = 2 << 30
"""Bytes free below which the next model may not fit."""
LEAST_DISK: Final = 8 << 20
LITTLE_MEMORY: Final = 512 << 20
"""Bytes free below which hardly any model can be loaded."""
BUSY: Final = 1.0
"""Runnable tasks per core from which on answers share the cores."""
OFF_BY: Final = 1.2
"""How many times the estimate a model may take, before that is worth a word."""
_SPINNING: Final = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY", "OMP_PROC_BIND")


class Finding(Record, frozen=True, omit_defaults=False):
    """One line of the report; ``mend`` is the command, or the step, that puts it right."""

    topic: str
    level: Level
    says: str
    mend: str = ""


def fine(topic: str, says: str) -> Finding:
    """Nothing to do."""
    return Finding(topic=topic, level="ok", says=says)


def warning(topic: str, says: str, mend: str = "") -> Finding:
    """It works, but worse than it could."""
    return Finding(topic=topic, level="warning", says=says, mend=mend)


def problem(topic: str, says: str, mend: str = "") -> Finding:
    """It does not work."""
    return Finding(topic=topic, level="problem", says=says, mend=mend)


def of_error(topic: str, error: MeshnodeError) -> Finding:
    """An error that would have ended the start, or ended a check."""
    return problem(topic, error.message, error.hint)


# --- the machine ------------------------------------------------------------------------------------


def of_gpus(
    accelerators: Sequence[Accelerator], backends: Collection[str], devices: Sequence[Seen], *, cpu: bool
) -> Finding:
    """Whether the GPUs in the machine are used."""
    verdict = judge(accelerators, backends, devices, cpu=cpu)
    if verdict.error is not None:
        return problem("GPU", verdict.error, verdict.hint)
    if verdict.note is not None:
        return (fine if cpu else warning)("GPU", verdict.note)
    names = ", ".join(device.description for device in devices if device.kind in ("gpu", "igpu"))
    return fine("GPU", f"{names}: used." if names else "none in this machine; the CPU runs the models.")


def of_threads(cores: Cores, chosen: int, environ: Mapping[str, str]) -> list[Finding]:
    """How many threads engines will begin with; ``chosen`` is the owner's setting, 0 for none."""
    number = chosen or proposed(cores)
    why = "set by engine.threads" if chosen else "one core less than there is; loading a model measures which is best"
    found = [fine("threads", f"{number} to begin with ({described(cores)}): {why}.")]
    if chosen > cores.total:
        says = f"engine.threads is {chosen}, and this process may use {cores.total}: they wait for each other."
        found.append(warning("threads", says, f"Set engine.threads to 0, or at most {cores.total}."))
    if cores.load is not None and cores.load > BUSY * cores.total:
        says = (
            f"the machine is busy (load {cores.load:.1f} on {cores.total} cores): answers take several times as long."
        )
        found.append(warning("threads", says, "See what else computes: top"))
    for name in _SPINNING:
        if name in environ:
            says = f"{name}={environ[name][:40]} is set, and engines obey it."
            found.append(warning("threads", says, f"Unset it, unless you mean it: unset {name}"))
    return found


def of_memory(total: int, free: int) -> Finding:
    """Main memory, in bytes; ``free`` is what can be had without swapping."""
    says = f"{size(free)} of {size(total)} free."
    if free < LITTLE_MEMORY:
        return warning("memory", says, "End other programs, or unload a model: meshnode status")
    return fine("memory", says)


def of_disk(home: Path, free: int) -> Finding:
    """The disk that holds the home, in bytes."""
    says = f"{size(free)} free where {home} is."
    if free < LEAST_DISK:
        return problem("disk", says, "Free space there; `meshnode rm MODEL` removes a model.")
    if free < LITTLE_DISK:
        return warning("disk", says, "Free space before the next pull; `meshnode rm MODEL` removes a model.")
    return fine("disk", says)


def of_clock(now: float, newest_file: float, synchronised: bool | None) -> Finding:
    """The wall clock (seconds since 1970), against the newest file of this program and the kernel's own word."""
    if now < newest_file - 86400:
        says = "the clock is behind this program's own files: peers refuse what is signed in the past."
        return problem("clock", says, "Set it: sudo timedatectl set-ntp true")
    if synchronised is False:
        return warning("clock", "nobody keeps the clock right.", "sudo timedatectl set-ntp true")
    return fine("clock", "kept right." if synchronised else "plausible.")


def of_files(hard_limit: int, wanted: int) -> Finding:
    """How many files and connections a process may open."""
    if hard_limit < wanted:
        says = f"a process may open {hard_limit} files, and with all its connections a node wants {wanted}."
        return warning("files", says, f"ulimit -Hn {wanted}, or lower api.max_connections")
    return fine("files", f"{wanted} may be opened.")


# --- the node ---------------------------------------------------------------------------------------


def of_model(model: ModelStatus) -> list[Finding]:
    """A model that was asked for: where its layers are, with which threads, under which sandbox."""
    topic = f"model {model.id}"
    if model.state == "failed":
        return [problem(topic, model.reason, f"Mend that, then: meshnode chat {model.id}")]
    if model.state == "loading":
        return [fine(topic, f"being loaded, {model.progress:.0%}.")]
    if model.state != "ready":
        return [fine(topic, "not loaded; it will be when it is asked for.")]
    layers, devices = model.layers or 0, ", ".join(model.devices or ())
    says = f"{model.gpu_layers or 0} of {layers} layers on a GPU ({devices}), {model.context_length} tokens of context"
    says += f", {model.decode_tps:.0f} tokens/s measured." if model.decode_tps else "."
    found = [fine(topic, says)]
    if 0 < (model.gpu_layers or 0) < layers:
        says = f"{layers - (model.gpu_layers or 0)} layers are on the CPU, which slows all of them down."
        found.append(warning(topic, says, "Try less context (--context), or a smaller quantisation."))
    if model.threads_reason:
        found.append(fine(topic, f"threads: {model.threads_reason}."))
    found += _memory_taken(topic, model)
    found += _sandbox(topic, model)
    if model.restarts:
        says = f"its worker died and was started again {model.restarts} times."
        found.append(warning(topic, says, "The node's log has its last words."))
    return found


def _memory_taken(topic: str, model: ModelStatus) -> list[Finding]:
    taken, estimated = model.memory, model.memory_estimated
    if not taken:
        return []
    says = f"takes {size(taken)}" + (f" ({size(estimated)} estimated)." if estimated else ".")
    off = estimated and not 1 / OFF_BY <= taken / estimated <= OFF_BY
    return [
        warning(topic, says, "Report the model, please: the estimate is wrong for it.") if off else fine(topic, says)
    ]


def _sandbox(topic: str, model: ModelStatus) -> list[Finding]:
    if not (model.sandbox or model.sandbox_missing):
        return []
    found = [fine(topic, f"sandbox: {', '.join(model.sandbox) or 'none'}.")]
    for missing in model.sandbox_missing:
        found.append(
            warning(topic, f"sandbox without {missing}.", "A newer kernel, or fewer limits on this user, has it.")
        )
    return found
