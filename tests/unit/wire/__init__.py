"""Mirrors meshnode/wire."""
