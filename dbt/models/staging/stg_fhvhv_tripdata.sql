select
    {{ tripid() }} as tripid,
    filename,
    {{ code('pulocationid') }} as pickup_locationid,
    {{ code('dolocationid') }} as dropoff_locationid,
    pulocationid as pickup_zone_code,
    dolocationid as dropoff_zone_code,
    {{ moment('pickup_datetime') }} as pickup_datetime,
    {{ moment('dropoff_datetime') }} as dropoff_datetime,
    {{ amount('trip_miles') }} as trip_distance
from {{ source('tlc', 'fhvhv_tripdata') }}
