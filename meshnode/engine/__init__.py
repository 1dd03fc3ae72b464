"""Runs models: a worker process per loaded model, and the trio side that supervises it."""
