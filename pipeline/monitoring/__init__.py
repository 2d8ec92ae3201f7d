"""What a run reports of itself: its log, the metrics, alerts. None of it ever fails a task."""
