"""Mirrors meshnode/engine."""
