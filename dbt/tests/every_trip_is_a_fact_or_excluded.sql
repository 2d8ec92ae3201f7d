{{ config(tags=['rows']) }}
{#- Per file: the numbers of trips in fact_trips and in excluded_trips add up to the number in staging. -#}
with trips as (
    select filename, 1 as staged, 0 as kept, 0 as excluded
    from (
        {{- trips_of_all(facts=true, columns=['filename']) }}
    ) as staged
    where {{ is_under_test('filename') }}
    union all
    select filename, 0, 1, 0 from {{ ref('fact_trips') }} where {{ is_under_test('filename') }}
    union all
    select filename, 0, 0, 1 from {{ ref('excluded_trips') }} where {{ is_under_test('filename') }}
)

select filename, sum(staged) as trips_staged, sum(kept) as trips_kept, sum(excluded) as trips_excluded
from trips
group by filename
having sum(staged) <> sum(kept) + sum(excluded)
