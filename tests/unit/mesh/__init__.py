"""Mirrors meshnode/mesh."""
