"""Mirrors meshnode/api/responses."""
