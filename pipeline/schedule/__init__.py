"""The schedule: when missing months of each dataset are loaded, and the process that runs it."""
