{{ config(meta={'not_null': ['filename']}) }}
-- depends_on: {{ ref('changed_files') }}
{%- if target.type == 'bigquery' %}
-- depends_on: {{ ref('trips_by_hour') }}  (their transactions would conflict)
{%- endif %}

select
    filename,
    pickup_locationid,
    pickup_borough,
    pickup_zone as revenue_zone,
    {{ dbt.date_trunc('month', 'pickup_datetime') }} as revenue_month,
    service_type,
    payment_type_description,
    sum(fare_amount) as fare,
    sum(extra) as extra,
    sum(mta_tax) as mta_tax,
    sum(tip_amount) as tip_amount,
    sum(tolls_amount) as tolls_amount,
    sum(ehail_fee) as ehail_fee,
    sum(improvement_surcharge) as improvement_surcharge,
    sum(total_amount) as total_amount,
    sum(congestion_surcharge) as congestion_surcharge,
    count(*) as trips,
    sum(passenger_count) as passengers,
    count(passenger_count) as trips_with_passenger_count,
    sum(trip_distance) as distance,
    count(trip_distance) as trips_with_distance,
    sum(airport_fee) as airport_fee,
    sum(cbd_congestion_fee) as cbd_congestion_fee
from {{ ref('fact_trips') }}
where {{ is_in_changed_files('filename') }}
group by 1, 2, 3, 4, 5, 6, 7
{%- if services(facts=false) %}

union all

select
    counted.filename,
    zones.locationid,
    zones.borough,
    zones.zone,
    {{ dbt.date_trunc('month', 'counted.pickup_datetime') }},
    counted.service_type,
    null,
    null, null, null, null, null, null, null, null, null,
    count(*),
    null,
    0,
    sum(counted.trip_distance),
    count(counted.trip_distance),
    null,
    null
from (
    {{- trips_of_all(facts=false, columns=counted_columns()) }}
) as counted
left join {{ ref('dim_zones') }} as zones
    on counted.pickup_zone_code = {{ zone_code('zones') }} and {{ is_known_zone('zones') }}
where counted.pickup_datetime is not null and {{ is_in_changed_files('counted.filename') }}
group by 1, 2, 3, 4, 5, 6
{%- endif %}
