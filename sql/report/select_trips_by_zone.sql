SELECT
    service_type AS service,
    pickup_borough AS borough,
    pickup_zone AS zone,
    COUNT(*) AS trips,
    SUM(total_amount) AS revenue
FROM {fact_trips}
GROUP BY 1, 2, 3
