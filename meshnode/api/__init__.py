"""HTTP: one file per dialect, each a parser into domain requests and a renderer of events."""
