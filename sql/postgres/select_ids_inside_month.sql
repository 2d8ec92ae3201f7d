-- What other files hold of this month: the only rows that could also be in this month's own file.
SELECT unique_row_id, filename FROM {table} WHERE {event_time} >= %(start)s AND {event_time} < %(stop)s
