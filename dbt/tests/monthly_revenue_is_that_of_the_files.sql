{{ config(tags=['files']) }}
{#- All conditions on the monthly revenue, checked in one pass; there is one row per zone, month and service. -#}
with revenue as (
    select sum(total_amount) as total_amount, sum(trips) as trips
    from {{ ref('int_zone_revenue_by_file') }}
    where service_type in ('{{ services(facts=true) | join("', '") }}')
),

zones as (
    select
        count(*) as entries,
        sum(revenue_monthly_total_amount) as total_amount,
        sum(total_monthly_trips) as trips,
        count(case when revenue_zone is null or revenue_month is null then 1 end) as incomplete
    from {{ ref('dm_monthly_zone_revenue') }}
    group by revenue_zone, revenue_month, service_type
),

monthly as (
    select sum(total_amount) as total_amount, sum(trips) as trips, sum(incomplete) as incomplete, max(entries) as entries
    from zones
)

select monthly.total_amount, revenue.total_amount as revenue, monthly.incomplete, monthly.entries
from revenue
cross join monthly
where
    revenue.total_amount is distinct from monthly.total_amount
    or revenue.trips <> monthly.trips
    or monthly.incomplete > 0
    or monthly.entries > 1
