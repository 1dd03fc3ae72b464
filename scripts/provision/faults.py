"""What setting up can fail with, each kind with its own exit code (the README lists them)."""

from __future__ import annotations


class SetupFault(Exception):
    """Setting up cannot go on.

    ``lines`` are what the user reads: first what was wrong, then what to do about it.
    """

    exit_code = 41

    def __init__(self, *lines: str) -> None:
        super().__init__(lines[0])
        self.lines = lines


class MissingPrerequisite(SetupFault):
    """This machine lacks something that has to come from its own package manager; one line for each."""

    exit_code = 40


class InstallFailed(SetupFault):
    """The Python environment could not be made or filled."""


class EngineBuildFailed(SetupFault):
    """llama-cpp-python did not build for the hardware found."""

    exit_code = 42


class ModelFetchFailed(SetupFault):
    """The tests' model could not be fetched, or is not the file it should be."""

    exit_code = 43
