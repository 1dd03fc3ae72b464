"""Mirrors meshnode/storage."""
