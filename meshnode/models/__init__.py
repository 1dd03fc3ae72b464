"""Model files on disk: reading them, finding them, fetching them, judging whether they fit."""
