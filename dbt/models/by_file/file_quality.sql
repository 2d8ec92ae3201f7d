{{ config(meta={'one_row_a_file': true}) }}
-- depends_on: {{ ref('changed_files') }}
-- depends_on: {{ ref('fact_trips') }}
{%- if target.type == 'bigquery' %}
-- depends_on: {{ ref('int_zone_revenue_by_file') }}  (their transactions would conflict)
{%- endif %}
{# trips_by_hour already has the counts of trips in the marts; only the values of excluded trips are examined here. #}
{%- set counts = quality_checks().keys() | list %}

with loaded as (
    {%- for facts in [true, false] if services(facts=facts) %}
    {{ 'union all' if not loop.first }}
    select filename, service_type, {{ facts | lower }} as has_fares, count(*) as trips
    from (
        {{- trips_of_all(facts=facts, columns=['filename']) }}
    ) as staged
    where {{ is_in_changed_files('filename') }}
    group by 1, 2, 3
    {%- endfor %}
),

excluded as (
    select
        filename, pickup_datetime, exclusion_reason, true as has_fares, vendorid, fare_amount, total_amount, trip_distance,
        dropoff_datetime <= pickup_datetime as has_no_duration
    from {{ ref('int_trips') }}
    where exclusion_reason is not null and {{ is_in_changed_files('filename') }}
    {%- if services(facts=false) %}
    union all
    select filename, pickup_datetime, 'unknown pickup time', false, null, null, null, trip_distance, null
    from (
        {{- trips_of_all(facts=false, columns=counted_columns()) }}
    ) as counted
    where pickup_datetime is null and {{ is_in_changed_files('filename') }}
    {%- endif %}
),

days as (
    select filename, pickup_date, 'none' as exclusion_reason, trips, {{ counts | join(', ') }}
    from {{ ref('trips_by_hour') }}
    where {{ is_in_changed_files('filename') }}
    union all
    select filename, cast(pickup_datetime as date), exclusion_reason, count(*), {{ quality_counts() }}
    from excluded
    group by 1, 2, 3
)

select
    loaded.filename,
    loaded.service_type,
    loaded.has_fares,
    loaded.trips,
    {{ sum_of('days.trips', "exclusion_reason = 'none'") }} as reported,
    {{ sum_of('days.trips', "exclusion_reason <> 'none'") }} as excluded,
    {{ sum_of('days.trips', "exclusion_reason = 'unknown pickup time'") }} as unknown_pickup_times,
    {{ sum_of('days.trips', "exclusion_reason = 'unknown pickup zone'") }} as unknown_pickup_zones,
    {{ sum_of('days.trips', "exclusion_reason = 'unknown dropoff zone'") }} as unknown_dropoff_zones,
    {{ sum_of('days.trips', outside_month('pickup_date', 'days.filename')) }} as outside_month
    {%- for count in counts %},
    {{ sum_of(count) }} as {{ count }}
    {%- endfor %}
from loaded
left join days on loaded.filename = days.filename
group by 1, 2, 3, 4
