"""What the vectors, the fuzzer and the tests of the wire have in common: samples, mutations, honest ends."""
