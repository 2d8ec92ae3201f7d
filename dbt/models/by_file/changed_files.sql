{{ config(materialized='table', post_hook='{{ create_build_lock() }}') }}
{%- set all_files = flags.FULL_REFRESH or some_model_by_file_is_missing() %}

with loaded as (
    {{ loaded_files() }}
){% if not all_files %},

built as (
    select filename, loaded_at, zones_loaded_at from {{ existing_relation('built_files') }}
)

select
    coalesce(loaded.filename, built.filename) as filename,
    loaded.loaded_at,
    loaded.zones_loaded_at
from loaded
full outer join built on loaded.filename = built.filename
where
    loaded.loaded_at is distinct from built.loaded_at
    or loaded.zones_loaded_at is distinct from built.zones_loaded_at
{%- else %}

select filename, loaded_at, zones_loaded_at from loaded
{%- endif %}
