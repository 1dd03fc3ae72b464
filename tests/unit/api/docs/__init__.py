"""The documentation that a node serves."""
