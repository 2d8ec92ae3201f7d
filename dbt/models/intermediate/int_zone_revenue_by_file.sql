{{
    config(
        materialized='incremental',
        incremental_strategy='merge' if target.type == 'bigquery' else 'by_file',
        on_schema_change='fail',
    )
}}
-- depends_on: {{ ref('changed_files') }}

select
    filename,
    pickup_zone as revenue_zone,
    {{ dbt.date_trunc('month', 'pickup_datetime') }} as revenue_month,
    service_type,
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
    count(trip_distance) as trips_with_distance
from {{ ref('fact_trips') }}
{%- if is_incremental() %}
where {{ is_in_changed_files('filename') }}
{%- endif %}
group by 1, 2, 3, 4
