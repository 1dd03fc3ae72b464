"""Which backend the engine is built for: asks the same detection that the node uses at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshnode.engine import hardware
from provision.wheel import find_tool
from provision.wishes import Wishes

TOOLS = ("nvcc", "hipcc", "glslc")
"""Compilers of the GPU toolkits: CUDA, ROCm, Vulkan."""


@dataclass(frozen=True)
class Choice:
    """A build backend, and a line of advice where a better one is within reach."""

    backend: str
    advice: str


def choose(wishes: Wishes, environ: Mapping[str, str]) -> Choice:
    """The backend for this machine; ``cpu`` where the user said so."""
    present = frozenset(tool for tool in TOOLS if find_tool(tool, environ))
    choice = hardware.backend_for(hardware.detect(), present, cpu=wishes.cpu)
    return Choice(choice.backend, choice.advice)
