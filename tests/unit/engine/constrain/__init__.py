"""Mirrors meshnode/engine/constrain."""
