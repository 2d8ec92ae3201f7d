with trips as (
    {{- trips_of_all(facts=true, columns=trip_columns()) }}
)

select
    {% for column in trip_columns() if not column.endswith(('_locationid', '_zone_code')) -%}
    trips.{{ column }},
    {% endfor -%}
    trips.service_type,
    {#- Zone numbers are converted from text only for trips whose zone is unknown. #}
    coalesce(pickup.locationid, trips.pickup_locationid) as pickup_locationid,
    coalesce(dropoff.locationid, trips.dropoff_locationid) as dropoff_locationid,
    {{ vendor_name('trips.vendorid') }} as vendor_name,
    {{ minutes_between('trips.pickup_datetime', 'trips.dropoff_datetime') }} as trip_duration_minutes,
    pickup.borough as pickup_borough,
    pickup.zone as pickup_zone,
    dropoff.borough as dropoff_borough,
    dropoff.zone as dropoff_zone,
    coalesce(payment_types.payment_type_description, 'Unknown') as payment_type_description,
    case
        when trips.pickup_datetime is null then 'unknown pickup time'
        when pickup.locationid is null then 'unknown pickup zone'
        when dropoff.locationid is null then 'unknown dropoff zone'
        {%- if var('known_vendors_only') %}
        when trips.vendorid is null then 'unknown vendor'
        {%- endif %}
    end as exclusion_reason
from trips
left join {{ ref('dim_zones') }} as pickup
    on trips.pickup_zone_code = {{ zone_code('pickup') }} and {{ is_known_zone('pickup') }}
left join {{ ref('dim_zones') }} as dropoff
    on trips.dropoff_zone_code = {{ zone_code('dropoff') }} and {{ is_known_zone('dropoff') }}
left join {{ ref('payment_types') }} as payment_types on trips.payment_type = payment_types.payment_type
