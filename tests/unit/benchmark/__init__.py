"""Tests of what the scripts that measure compute."""
