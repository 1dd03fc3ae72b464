"""The programs people use, against this checkout's node: official SDKs, frameworks, coding agents, snippets."""
