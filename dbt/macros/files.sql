{#- Every trip file that is loaded, and when it and the zones that its trips are joined with were. -#}
{% macro loaded_files() -%}
    select
        {{ dbt.concat(["trips.target_table", "'_'", dbt.right("trips.partition_key", 7), "'.csv'"]) }} as filename,
        trips.finished_at as loaded_at,
        zones.finished_at as zones_loaded_at
    from {{ source('tlc', 'load_ledger') }} as trips
    cross join {{ source('tlc', 'load_ledger') }} as zones
    where trips.target_table in ('green_tripdata', 'yellow_tripdata') and zones.target_table = 'taxi_zone_lookup'
        and trips.finished_at is not null and zones.finished_at is not null
{%- endmacro %}

{#- A condition with the files' names written out, as both warehouses pass over what they need not read only then. -#}
{% macro is_in_changed_files(column) -%}
    {%- if execute -%}
    {%- set changed_files = existing_relation('changed_files') -%}
    {%- set names = run_query('select filename from ' ~ changed_files ~ ' order by 1').columns[0].values() -%}
    {%- endif -%}
    {%- if names -%}
    {{ column }} in ('{{ names | join("', '") }}')
    {%- else -%}
    false
    {%- endif -%}
{%- endmacro %}

{#- A model's table as it is now, or none. Unlike ref() it asks for no order, and works in tests and for models to come. -#}
{% macro existing_relation(name) %}
    {%- if execute -%}
    {%- set node = graph.nodes['model.tlc.' ~ name] -%}
    {{ return(adapter.get_relation(node.database, node.schema, node.alias)) }}
    {%- endif -%}
{% endmacro %}

{#- What a test looks at: in a build the files that the build is about, so that a month costs that month; in `dbt test`
    everything. -#}
{% macro is_under_test(column) -%}
    {{ is_in_changed_files(column) if flags.WHICH == 'build' else 'true' }}
{%- endmacro %}

{% macro some_incremental_model_is_missing() %}
    {%- if execute -%}
    {%- for node in graph.nodes.values() if node.config.materialized == 'incremental' -%}
        {%- if existing_relation(node.name) is none -%}{{ return(true) }}{%- endif -%}
    {%- endfor -%}
    {%- endif -%}
    {{ return(false) }}
{% endmacro %}
