{{ config(one_row_a_file=true) }}
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

days as (
    select
        filename,
        service_type,
        has_fares,
        cast(pickup_datetime as date) as pickup_date,
        exclusion_reason,
        count(*) as trips,
        count(case when has_fares and vendorid is null then 1 end) as unknown_vendors,
        count(case when fare_amount < 0 then 1 end) as negative_fares,
        count(case when has_fares and (fare_amount is null or total_amount is null) then 1 end) as unknown_amounts,
        count(case when trip_distance = 0 then 1 end) as zero_distances,
        count(case when has_no_duration then 1 end) as no_durations
    from trips
    group by 1, 2, 3, 4, 5
)

select
    filename,
    service_type,
    has_fares,
    {{ sum_of('trips') }} as trips,
    {{ sum_of('trips', "exclusion_reason is null") }} as reported,
    {{ sum_of('trips', "exclusion_reason = 'unknown pickup time'") }} as unknown_pickup_times,
    {{ sum_of('trips', "exclusion_reason = 'unknown pickup zone'") }} as unknown_pickup_zones,
    {{ sum_of('trips', "exclusion_reason = 'unknown dropoff zone'") }} as unknown_dropoff_zones,
    {{ sum_of('trips', outside_month('pickup_date', 'filename')) }} as outside_month,
    {{ sum_of('unknown_vendors') }} as unknown_vendors,
    {{ sum_of('negative_fares') }} as negative_fares,
    {{ sum_of('unknown_amounts') }} as unknown_amounts,
    {{ sum_of('zero_distances') }} as zero_distances,
    {{ sum_of('no_durations') }} as no_durations
from days
group by 1, 2, 3
