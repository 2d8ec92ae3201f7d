{{ config(tags=['rows']) }}
with trips as (
    select filename, sum(total_amount) as total_amount, count(*) as trips
    from {{ ref('fact_trips') }}
    where {{ is_under_test('filename') }}
    group by filename
),

revenue as (
    select filename, sum(total_amount) as total_amount, sum(trips) as trips
    from {{ ref('int_zone_revenue_by_file') }}
    where service_type in ('{{ services(facts=true) | join("', '") }}') and {{ is_under_test('filename') }}
    group by filename
)

select trips.filename, trips.total_amount, revenue.total_amount as revenue
from trips
full outer join revenue on trips.filename = revenue.filename
where
    trips.total_amount is distinct from revenue.total_amount
    or trips.trips is distinct from revenue.trips
