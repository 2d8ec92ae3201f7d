"""Random trials with faults against the real commands, with a seed and a limit of time: `make faults`."""
