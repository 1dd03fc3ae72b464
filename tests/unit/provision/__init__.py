"""Tests of meshnode."""
