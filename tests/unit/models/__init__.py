"""Mirrors meshnode/models."""
