"""Stories told in the terminal by real nodes; they exit non-zero when anything in them is not so."""
