with revenue as (
    select sum(total_amount) as total_amount, sum(trips) as trips
    from {{ ref('int_zone_revenue_by_file') }}
    where service_type in ('{{ services(facts=true) | join("', '") }}')
),

monthly as (
    select sum(revenue_monthly_total_amount) as total_amount, sum(total_monthly_trips) as trips
    from {{ ref('dm_monthly_zone_revenue') }}
)

select monthly.total_amount, revenue.total_amount as revenue
from revenue
cross join monthly
where revenue.total_amount <> monthly.total_amount or revenue.trips <> monthly.trips
