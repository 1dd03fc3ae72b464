"""Mirrors meshnode/ledger."""
