"""The tree of errors: each says whose fault it is, with a status and an exit code that a program can act on."""

from __future__ import annotations

from collections.abc import Iterator

from meshnode import errors


def tree(root: type[errors.MeshnodeError] = errors.MeshnodeError) -> Iterator[type[errors.MeshnodeError]]:
    """The errors below ``root``; rooms may refine one for themselves, under its own code."""
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
        yield from tree(child)


def test_every_code_names_one_error() -> None:
    codes = [error.code for error in tree()]
    assert len(codes) == len(set(codes))


def test_a_callers_faults_are_4xx_and_ours_and_a_peers_are_5xx() -> None:
    for error in tree(errors.RequestError):
        assert error.fault == "caller"
        assert 400 <= error.status < 500, error
    for error in [*tree(errors.ServingError), *tree(errors.PeerError)]:
        if error is not errors.Cancelled:
            assert 500 <= error.status < 600, error


def test_each_fault_of_the_owners_has_its_own_exit_code() -> None:
    codes = {error.exit_code: error for error in tree(errors.OwnerError)}
    assert len(codes) == len(list(tree(errors.OwnerError)))
    assert not {0, 1, 2, 22, 23, 24, 130} & codes.keys()


def test_what_is_shown_is_what_was_wrong_and_what_to_do() -> None:
    error = errors.PortInUse("port 9337 is taken.", hint="Give another with --api.", param=None, retry_after_s=3.0)
    assert str(error) == "port 9337 is taken. Give another with --api."
    assert str(errors.InternalFault("it broke.")) == "it broke."
    assert error.retry_after_s == 3.0
