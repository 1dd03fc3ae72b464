"""What the official Python SDKs must be given; run by the Python of their own environment."""
