"""Mirrors meshnode/cli."""
