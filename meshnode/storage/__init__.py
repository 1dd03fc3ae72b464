"""What survives a restart: the only door to SQLite."""
