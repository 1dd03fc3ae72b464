"""Makes a checkout ready to run: checks the machine, makes .venv, builds the engine. Standard library only."""
