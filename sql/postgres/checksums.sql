-- name: select_file_checksums
-- 40 bits, so that the sum fits into an INT64 of BigQuery.
SELECT {event_time}::date, count(*),
       sum(('x' || left(unique_row_id, 10))::bit(40)::bigint), sum(('x' || right(unique_row_id, 10))::bit(40)::bigint),
       {checksums}
FROM {table} WHERE filename = %(filename)s GROUP BY 1;
