-- What other files hold that could also be in this month's own file: rows of this month, and rows whose time is not
-- written with a year of four digits, as ids are made of unseparated texts: vendor 1 in 22019 reads as 12 in 2019.
SELECT unique_row_id, filename FROM {table}
WHERE {event_time} >= %(start)s AND {event_time} < %(stop)s
   OR {event_time} IS NULL OR {event_time} < '0001-01-01' OR {event_time} >= '10000-01-01'
