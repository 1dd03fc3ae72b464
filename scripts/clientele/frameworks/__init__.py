"""Real round trips of frameworks; each file runs in the environment that has that framework."""
