"""Mirrors meshnode/api."""
