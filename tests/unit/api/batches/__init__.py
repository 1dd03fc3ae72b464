"""Tests of meshnode.api.batches."""
