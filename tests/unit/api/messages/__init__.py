"""Mirrors meshnode/api/messages."""
