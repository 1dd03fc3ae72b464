"""Mirrors meshnode/gateway."""
