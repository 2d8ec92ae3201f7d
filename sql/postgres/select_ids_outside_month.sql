SELECT unique_row_id FROM {loading}
WHERE {event_time} < %(start)s OR {event_time} >= %(stop)s OR {event_time} IS NULL
