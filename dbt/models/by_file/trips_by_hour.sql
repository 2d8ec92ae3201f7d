{{ config(meta={'not_null': ['filename']}) }}
-- depends_on: {{ ref('changed_files') }}

with trips as (
    select
        filename, service_type, pickup_datetime, trip_distance, trip_duration_minutes,
        total_amount, fare_amount, tip_amount, case when payment_type = 1 then total_amount - tip_amount end as paid_by_card,
        true as has_fares, vendorid, dropoff_datetime <= pickup_datetime as has_no_duration
    from {{ ref('fact_trips') }}
    where {{ is_in_changed_files('filename') }}
    {%- if services(facts=false) %}
    union all
    select
        filename, service_type, pickup_datetime, trip_distance,
        {{ minutes_between('pickup_datetime', 'dropoff_datetime') }}, null, null, null, null,
        false, null, dropoff_datetime <= pickup_datetime
    from (
        {{- trips_of_all(facts=false, columns=counted_columns()) }}
    ) as counted
    where {{ is_in_changed_files('filename') }}
    {%- endif %}
),

hours as (
    select
        filename,
        service_type,
        {{ dbt.date_trunc('hour', 'pickup_datetime') }} as pickup_time,
        count(*) as trips,
        sum(total_amount) as total_amount,
        sum(fare_amount) as fare_amount,
        sum(tip_amount) as tip_amount,
        sum(paid_by_card) as paid_by_card,
        sum(trip_distance) as trip_distance,
        count(trip_distance) as trips_with_distance,
        sum(case when trip_duration_minutes > 0 and trip_duration_minutes < 1440 then trip_duration_minutes end)
            as trip_duration_minutes,
        count(case when trip_duration_minutes > 0 and trip_duration_minutes < 1440 then 1 end) as trips_with_duration,
        {{ quality_counts() }}
    from trips
    where pickup_datetime is not null
    group by 1, 2, 3
)

select
    filename,
    service_type,
    cast(pickup_time as date) as pickup_date,
    {{ weekday('pickup_time') }} as pickup_weekday,
    cast(extract(hour from pickup_time) as {{ dbt.type_int() }}) as pickup_hour,
    trips,
    total_amount,
    fare_amount,
    tip_amount,
    paid_by_card,
    trip_distance,
    trips_with_distance,
    trip_duration_minutes,
    trips_with_duration,
    {{ quality_checks().keys() | join(', ') }}
from hours
