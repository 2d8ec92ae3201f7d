-- Every hour of every day that had trips: enough for months, weekdays and hours.
SELECT
    service_type AS service,
    CAST(pickup_datetime AS DATE) AS date,
    EXTRACT(HOUR FROM pickup_datetime) AS hour,
    COUNT(*) AS trips,
    SUM(total_amount) AS revenue
FROM {fact_trips}
GROUP BY 1, 2, 3
