-- By the year and month of the pick-up, so that the reader can tell which are not the file's own.
SELECT
    filename,
    EXTRACT(YEAR FROM {event_time}) AS pickup_year,
    EXTRACT(MONTH FROM {event_time}) AS pickup_month,
    COUNT(*) AS trips,
    SUM(CASE WHEN COALESCE(vendorid, '') = '' THEN 1 ELSE 0 END) AS blank_vendors,
    SUM(CASE WHEN fare_amount < 0 THEN 1 ELSE 0 END) AS negative_fares
FROM {table}
GROUP BY 1, 2, 3
