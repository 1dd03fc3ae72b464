"""Random and damaged input against what reads it; scripts/fuzz_wire runs more of the same."""
