{{
    config(
        materialized='incremental',
        incremental_strategy='merge' if target.type == 'bigquery' else 'by_file',
        on_schema_change='fail',
        indexes=[{'columns': ['filename'], 'type': 'brin'}],
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
    filename
from {{ ref('int_trips') }}
where exclusion_reason is null
    {%- if is_incremental() %}
    and {{ is_in_changed_files('filename') }}
    {%- else %}
    and filename in (select loaded.filename from ({{ loaded_files() }}) as loaded)
    {%- endif %}
