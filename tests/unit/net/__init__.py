"""Mirrors meshnode/net."""
