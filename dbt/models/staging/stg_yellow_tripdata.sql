select
    {{ tripid() }} as tripid,
    filename,
    cast(vendorid as {{ dbt.type_int() }}) as vendorid,
    cast(ratecodeid as {{ dbt.type_int() }}) as ratecodeid,
    cast(pulocationid as {{ dbt.type_int() }}) as pickup_locationid,
    cast(dolocationid as {{ dbt.type_int() }}) as dropoff_locationid,
    tpep_pickup_datetime as pickup_datetime,
    tpep_dropoff_datetime as dropoff_datetime,
    store_and_fwd_flag,
    passenger_count,
    cast(trip_distance as numeric) as trip_distance,
    1 as trip_type,  -- yellow taxis are always hailed in the street
    cast(fare_amount as numeric) as fare_amount,
    cast(extra as numeric) as extra,
    cast(mta_tax as numeric) as mta_tax,
    cast(tip_amount as numeric) as tip_amount,
    cast(tolls_amount as numeric) as tolls_amount,
    cast(0 as numeric) as ehail_fee,
    cast(improvement_surcharge as numeric) as improvement_surcharge,
    cast(total_amount as numeric) as total_amount,
    cast(congestion_surcharge as numeric) as congestion_surcharge,
    coalesce(payment_type, 0) as payment_type
from {{ source('tlc', 'yellow_tripdata') }}
