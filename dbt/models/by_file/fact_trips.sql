{{
    config(
        meta={
            'partitioned': true,
            'not_null': [
                'tripid', 'filename', 'service_type', 'pickup_locationid', 'dropoff_locationid', 'pickup_datetime'
            ],
            'checks': {'known_service': "service_type in ('" ~ services(facts=true) | join("', '") ~ "')"},
        },
        partition_by={'field': 'pickup_datetime', 'data_type': 'timestamp', 'granularity': 'month'},
        cluster_by=['filename'],
    )
}}
-- depends_on: {{ ref('changed_files') }}

select
    tripid,
    vendorid,
    service_type,
    ratecodeid,
    pickup_locationid,
    pickup_borough,
    pickup_zone,
    dropoff_locationid,
    dropoff_borough,
    dropoff_zone,
    pickup_datetime,
    dropoff_datetime,
    store_and_fwd_flag,
    passenger_count,
    trip_distance,
    trip_type,
    fare_amount,
    extra,
    mta_tax,
    tip_amount,
    tolls_amount,
    ehail_fee,
    improvement_surcharge,
    total_amount,
    payment_type,
    payment_type_description,
    congestion_surcharge,
    filename,
    vendor_name,
    trip_duration_minutes,
    airport_fee,
    cbd_congestion_fee,
    request_source
from {{ ref('int_trips') }}
where exclusion_reason is null and {{ is_in_changed_files('filename') }}
