"""Tests of :mod:`meshnode.engine.llama`."""
