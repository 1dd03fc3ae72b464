"""Bytes on a wire: pure state machines, no I/O."""
