"""Files and batches: requests that are handed in together, and whose answers are fetched when all are there."""
