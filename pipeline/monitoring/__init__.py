"""What a run tells of itself: its log, the metrics, alerts. Set in motion by Luigi's events; never fails a task."""
