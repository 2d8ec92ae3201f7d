{{ config(tags=['files']) }}
select
    revenue_zone,
    revenue_month,
    service_type,
    sum(fare) as revenue_monthly_fare,
    sum(extra) as revenue_monthly_extra,
    sum(mta_tax) as revenue_monthly_mta_tax,
    sum(tip_amount) as revenue_monthly_tip_amount,
    sum(tolls_amount) as revenue_monthly_tolls_amount,
    sum(ehail_fee) as revenue_monthly_ehail_fee,
    sum(improvement_surcharge) as revenue_monthly_improvement_surcharge,
    sum(total_amount) as revenue_monthly_total_amount,
    sum(congestion_surcharge) as revenue_monthly_congestion_surcharge,
    cast(sum(trips) as {{ dbt.type_bigint() }}) as total_monthly_trips,
    round(cast(sum(passengers) as numeric) / nullif(sum(trips_with_passenger_count), 0), 6)
        as avg_monthly_passenger_count,
    round(sum(distance) / nullif(sum(trips_with_distance), 0), 6) as avg_monthly_trip_distance,
    sum(airport_fee) as revenue_monthly_airport_fee,
    sum(cbd_congestion_fee) as revenue_monthly_cbd_congestion_fee
from {{ ref('int_zone_revenue_by_file') }}
where service_type in ('{{ services(facts=true) | join("', '") }}')
group by 1, 2, 3
