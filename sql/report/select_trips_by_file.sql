SELECT filename, COUNT(*) AS trips
FROM {fact_trips}
GROUP BY 1
