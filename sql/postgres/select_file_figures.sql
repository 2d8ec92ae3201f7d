-- 60 bits are as many as a bigint holds without its sign.
SELECT {event_time}::date, count(*),
       sum(('x' || left(unique_row_id, 15))::bit(60)::bigint), sum(('x' || right(unique_row_id, 15))::bit(60)::bigint),
       {figures}
FROM {table} WHERE filename = %(filename)s GROUP BY 1
