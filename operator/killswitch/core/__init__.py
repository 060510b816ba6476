"""The pure heart: values and rules, standard library only, no I/O, clock or randomness."""
