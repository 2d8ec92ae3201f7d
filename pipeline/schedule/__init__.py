"""The schedule: when each dataset is caught up with, and running that."""
