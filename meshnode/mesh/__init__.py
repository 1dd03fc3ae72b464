"""Carries a request out: here, or (later) on a peer."""
