with trips as (
    select 'Green' as service_type, green.* from {{ ref('stg_green_tripdata') }} as green
    union all
    select 'Yellow' as service_type, yellow.* from {{ ref('stg_yellow_tripdata') }} as yellow
),

known_zones as (
    select * from {{ ref('dim_zones') }} where borough <> 'Unknown'
)

select
    trips.*,
    pickup.borough as pickup_borough,
    pickup.zone as pickup_zone,
    dropoff.borough as dropoff_borough,
    dropoff.zone as dropoff_zone,
    payment_types.payment_type_description,
    case
        when pickup.locationid is null then 'unknown pickup zone'
        when dropoff.locationid is null then 'unknown dropoff zone'
        {%- if var('known_vendors_only') %}
        when trips.vendorid is null then 'unknown vendor'
        {%- endif %}
    end as exclusion_reason
from trips
left join known_zones as pickup on trips.pickup_locationid = pickup.locationid
left join known_zones as dropoff on trips.dropoff_locationid = dropoff.locationid
left join {{ ref('payment_types') }} as payment_types on trips.payment_type = payment_types.payment_type
