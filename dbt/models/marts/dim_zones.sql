{{ config(indexes=[{'columns': ['locationid'], 'unique': true}]) }}
select
    cast(locationid as {{ dbt.type_int() }}) as locationid,
    borough,
    zone,
    replace(service_zone, 'Boro', 'Green') as service_zone
from {{ source('tlc', 'taxi_zone_lookup') }}
