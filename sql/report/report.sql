-- name: select_trips_by_file
SELECT filename, COUNT(*) AS trips
FROM {fact_trips}
GROUP BY 1;

-- name: select_trips_by_hour
-- Every hour of every day that had trips: enough for months, weekdays and hours.
SELECT
    service_type AS service,
    CAST(pickup_datetime AS DATE) AS date,
    EXTRACT(HOUR FROM pickup_datetime) AS hour,
    COUNT(*) AS trips,
    SUM(total_amount) AS revenue
FROM {fact_trips}
GROUP BY 1, 2, 3;

-- name: select_trips_by_zone
SELECT
    service_type AS service,
    pickup_borough AS borough,
    pickup_zone AS zone,
    COUNT(*) AS trips,
    SUM(total_amount) AS revenue
FROM {fact_trips}
GROUP BY 1, 2, 3;

-- name: select_quality_by_file
-- By the year and month of the pick-up, so that the reader can tell which are not the file's own.
SELECT
    filename,
    EXTRACT(YEAR FROM {event_time}) AS pickup_year,
    EXTRACT(MONTH FROM {event_time}) AS pickup_month,
    COUNT(*) AS trips,
    SUM(CASE WHEN COALESCE(vendorid, '') = '' THEN 1 ELSE 0 END) AS blank_vendors,
    SUM(CASE WHEN fare_amount < 0 THEN 1 ELSE 0 END) AS negative_fares
FROM {table}
GROUP BY 1, 2, 3;
