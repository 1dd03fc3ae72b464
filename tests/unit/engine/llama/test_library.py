"""What the library says of itself."""

from __future__ import annotations

from meshnode.engine.llama.library import backends, devices, open_library, text_of


def test_library_names_its_backends_and_devices() -> None:
    open_library()
    assert "CPU" in backends()
    cpu = next(device for device in devices() if device.kind == "cpu")
    assert cpu.memory_total > 2**20
    assert cpu.description


def test_text_of_nothing_is_empty_and_of_bad_bytes_readable() -> None:
    assert (text_of(None), text_of(b"caf\xc3\xa9"), text_of(b"\xff")) == ("", "café", "\ufffd")
