"""Mirrors meshnode/engine/replies."""
