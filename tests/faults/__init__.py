"""A campaign of random faults against the real commands, seeded and bounded: `make faults`."""
