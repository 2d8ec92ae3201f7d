-- depends_on: {{ ref('changed_files') }}
-- depends_on: {{ ref('fact_trips') }}

with trips as (
    select
        filename, service_type, pickup_datetime, exclusion_reason, vendorid, fare_amount, total_amount, trip_distance,
        dropoff_datetime <= pickup_datetime as has_no_duration, true as has_fares
    from {{ ref('int_trips') }}
    where {{ is_in_changed_files('filename') }}
    {%- if services(facts=false) %}
    union all
    select
        filename, service_type, pickup_datetime,
        case when pickup_datetime is null then 'unknown pickup time' end, null, null, null, trip_distance,
        dropoff_datetime <= pickup_datetime, false
    from (
        {{- trips_of_all(facts=false, columns=counted_columns()) }}
    ) as counted
    where {{ is_in_changed_files('filename') }}
    {%- endif %}
),

by_month as (
    select
        filename,
        service_type,
        has_fares,
        {{ dbt.date_trunc('month', 'pickup_datetime') }} as pickup_month,
        count(*) as trips,
        count(case when exclusion_reason is null then 1 end) as reported,
        count(case when exclusion_reason = 'unknown pickup time' then 1 end) as unknown_pickup_times,
        count(case when exclusion_reason = 'unknown pickup zone' then 1 end) as unknown_pickup_zones,
        count(case when exclusion_reason = 'unknown dropoff zone' then 1 end) as unknown_dropoff_zones,
        count(case when has_fares and vendorid is null then 1 end) as unknown_vendors,
        count(case when fare_amount < 0 then 1 end) as negative_fares,
        count(case when has_fares and (fare_amount is null or total_amount is null) then 1 end) as unknown_amounts,
        count(case when trip_distance = 0 then 1 end) as zero_distances,
        count(case when has_no_duration then 1 end) as no_durations
    from trips
    group by 1, 2, 3, 4
)

select
    filename,
    service_type,
    has_fares,
    cast(sum(trips) as {{ dbt.type_bigint() }}) as trips,
    cast(sum(reported) as {{ dbt.type_bigint() }}) as reported,
    cast(sum(unknown_pickup_times) as {{ dbt.type_bigint() }}) as unknown_pickup_times,
    cast(sum(unknown_pickup_zones) as {{ dbt.type_bigint() }}) as unknown_pickup_zones,
    cast(sum(unknown_dropoff_zones) as {{ dbt.type_bigint() }}) as unknown_dropoff_zones,
    cast(sum(case
        when pickup_month <> cast({{ dbt.concat(["left(right(filename, 11), 7)", "'-01'"]) }} as timestamp) then trips else 0
    end) as {{ dbt.type_bigint() }}) as outside_month,
    cast(sum(unknown_vendors) as {{ dbt.type_bigint() }}) as unknown_vendors,
    cast(sum(negative_fares) as {{ dbt.type_bigint() }}) as negative_fares,
    cast(sum(unknown_amounts) as {{ dbt.type_bigint() }}) as unknown_amounts,
    cast(sum(zero_distances) as {{ dbt.type_bigint() }}) as zero_distances,
    cast(sum(no_durations) as {{ dbt.type_bigint() }}) as no_durations
from by_month
group by 1, 2, 3
