"""What the wire looks like, recorded: bytes and what they mean. scripts/record_vectors writes the JSON."""
