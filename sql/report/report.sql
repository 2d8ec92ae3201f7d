-- The report's queries, valid on every warehouse. They read the small marts that are kept by file, and nothing else.

-- name: select_months
SELECT
    service_type AS service,
    EXTRACT(YEAR FROM pickup_date) AS year,
    EXTRACT(MONTH FROM pickup_date) AS month,
    COUNT(DISTINCT pickup_date) AS days,
    SUM(trips) AS trips,
    SUM(total_amount) AS revenue,
    SUM(fare_amount) AS fares,
    SUM(tip_amount) AS tips,
    SUM(trip_distance) AS distance,
    SUM(trips_with_distance) AS trips_with_distance,
    SUM(trip_duration_minutes) AS minutes,
    SUM(trips_with_duration) AS trips_with_duration
FROM {trips_by_hour}
GROUP BY 1, 2, 3;

-- name: select_week
SELECT
    service_type AS service,
    EXTRACT(YEAR FROM pickup_date) AS year,
    EXTRACT(MONTH FROM pickup_date) AS month,
    pickup_weekday AS weekday,
    pickup_hour AS hour,
    SUM(trips) AS trips
FROM {trips_by_hour}
GROUP BY 1, 2, 3, 4, 5;

-- name: select_zones
SELECT
    service_type AS service,
    EXTRACT(YEAR FROM revenue_month) AS year,
    EXTRACT(MONTH FROM revenue_month) AS month,
    pickup_locationid AS zone_id,
    MIN(pickup_borough) AS borough,
    MIN(revenue_zone) AS zone,
    SUM(trips) AS trips,
    SUM(total_amount) AS revenue
FROM {int_zone_revenue_by_file}
GROUP BY 1, 2, 3, 4;

-- name: select_zone_names
SELECT locationid AS zone_id, zone, borough
FROM {dim_zones};

-- name: select_payments
SELECT
    service_type AS service,
    EXTRACT(YEAR FROM revenue_month) AS year,
    EXTRACT(MONTH FROM revenue_month) AS month,
    payment_type_description AS payment,
    SUM(trips) AS trips,
    SUM(total_amount) AS revenue,
    SUM(tip_amount) AS tips
FROM {int_zone_revenue_by_file}
WHERE payment_type_description IS NOT NULL
GROUP BY 1, 2, 3, 4;

-- name: select_file_quality
SELECT
    filename, service_type AS service, has_fares, trips, reported, unknown_pickup_times, unknown_pickup_zones,
    unknown_dropoff_zones, outside_month, unknown_vendors, negative_fares, unknown_amounts, zero_distances, no_durations
FROM {file_quality}
ORDER BY filename;
