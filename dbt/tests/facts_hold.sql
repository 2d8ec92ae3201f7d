{{ config(tags=['files']) }}
{#- All conditions on the trips of a file, checked in one pass over them. DbtBuild leaves out the tests tagged `rows`,
    which check the conditions one by one; `dbt test` runs both. -#}
{%- set is_of_the_build = is_under_test('filename') %}
with facts as (
    select
        filename,
        count(*) as trips,
        sum(total_amount) as total_amount,
        count(case
            when tripid is null or pickup_datetime is null
                or service_type not in ('{{ services(facts=true) | join("', '") }}')
                or pickup_locationid is null or dropoff_locationid is null
                or pickup_locationid not in (select locationid from {{ ref('dim_zones') }})
                or dropoff_locationid not in (select locationid from {{ ref('dim_zones') }})
            then 1
        end) as invalid
    from {{ ref('fact_trips') }}
    where {{ is_of_the_build }}
    group by filename
),

loaded as (
    select
        filename,
        sum(trips) as trips,
        sum(reported) as reported,
        sum(excluded) as excluded,
        count(*) as entries
    from {{ ref('file_quality') }}
    where has_fares and {{ is_of_the_build }}
    group by filename
),

by_zone as (
    select filename, sum(trips) as trips, sum(total_amount) as total_amount
    from {{ ref('int_zone_revenue_by_file') }}
    where service_type in ('{{ services(facts=true) | join("', '") }}') and {{ is_of_the_build }}
    group by filename
),

by_hour as (
    select filename, sum(trips) as trips, sum(total_amount) as total_amount
    from {{ ref('trips_by_hour') }}
    where service_type in ('{{ services(facts=true) | join("', '") }}') and {{ is_of_the_build }}
    group by filename
)

select
    loaded.filename, loaded.trips as trips_loaded, loaded.reported, loaded.excluded, facts.trips, facts.invalid,
    facts.total_amount, by_zone.total_amount as total_by_zone, by_hour.total_amount as total_by_hour
from loaded
full outer join facts on loaded.filename = facts.filename
left join by_zone on facts.filename = by_zone.filename
left join by_hour on facts.filename = by_hour.filename
where
    facts.invalid > 0
    or loaded.filename is null
    or loaded.entries > 1
    or loaded.trips <> loaded.reported + loaded.excluded
    or coalesce(facts.trips, 0) <> loaded.reported
    or by_zone.trips is distinct from facts.trips
    or by_hour.trips is distinct from facts.trips
    or by_zone.total_amount is distinct from facts.total_amount
    or by_hour.total_amount is distinct from facts.total_amount
