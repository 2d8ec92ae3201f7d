{{ config(meta={'one_row_a_file': true}) }}
-- depends_on: {{ ref('fact_trips') }}
-- depends_on: {{ ref('excluded_trips') }}
-- depends_on: {{ ref('trips_by_hour') }}
-- depends_on: {{ ref('file_quality') }}
-- depends_on: {{ ref('dm_monthly_zone_revenue') }}

select filename, loaded_at, zones_loaded_at
from {{ ref('changed_files') }}
where loaded_at is not null
