"""What the bench_* scripts share: servers to start, streams to read, figures to compare."""
