{#- Every loaded trip file, with the times at which it and the zones were loaded. -#}
{% macro loaded_files() -%}
    select
        {{ dbt.concat(["trips.target_table", "'_'", dbt.right("trips.partition_key", 7), "'.csv'"]) }} as filename,
        trips.finished_at as loaded_at,
        zones.finished_at as zones_loaded_at
    from {{ source('tlc', 'load_ledger') }} as trips
    cross join {{ source('tlc', 'load_ledger') }} as zones
    where
        trips.target_table in ('{{ var("datasets").keys() | join("', '") }}')
        and zones.target_table = 'taxi_zone_lookup'
        and trips.finished_at is not null and zones.finished_at is not null
{%- endmacro %}

{#- The files that this build processes, in the order of their names, whether they are still loaded, and whether their
    trips are in fact_trips: the table is named before the last 12 characters of the file, such as `_2019-01.csv`. -#}
{% macro changed_files() -%}
    {%- set files = [] -%}
    {%- if execute and existing_relation('changed_files') is not none -%}
    {%- set query = 'select filename, loaded_at is not null as loaded from ' ~ existing_relation('changed_files') ~ ' order by 1' -%}
    {%- for row in run_query(query).rows -%}
    {%- set facts = var('datasets').get(row[0][:-12], {}).facts | default(false) -%}
    {%- do files.append({'filename': row[0], 'loaded': row[1], 'facts': facts}) -%}
    {%- endfor -%}
    {%- endif -%}
    {{ return(files) }}
{%- endmacro %}

{#- The file names are literals, because only then do both warehouses skip the data of other files. -#}
{% macro is_in_changed_files(column) -%}
    {%- set names = changed_files() | map(attribute='filename') | list -%}
    {%- if names -%}
    {{ column }} in ('{{ names | join("', '") }}')
    {%- else -%}
    false
    {%- endif -%}
{%- endmacro %}

{#- A model's existing table, or none. Unlike ref(), it adds no dependency, and works in tests and for models that are
    built later. -#}
{% macro existing_relation(name) %}
    {%- if execute -%}
    {%- set node = graph.nodes['model.tlc.' ~ name] -%}
    {{ return(adapter.get_relation(node.database, node.schema, node.alias)) }}
    {%- endif -%}
{% endmacro %}

{#- Limits a test in `dbt build` to the changed files, so that its cost does not grow with the number of files;
    `dbt test` checks all. -#}
{% macro is_under_test(column) -%}
    {{ is_in_changed_files(column) if flags.WHICH == 'build' else 'true' }}
{%- endmacro %}

{% macro some_model_by_file_is_missing() %}
    {%- if execute -%}
    {%- for node in graph.nodes.values() if node.config.materialized in ('by_file', 'incremental') -%}
        {%- if existing_relation(node.name) is none -%}{{ return(true) }}{%- endif -%}
    {%- endfor -%}
    {%- endif -%}
    {{ return(false) }}
{% endmacro %}
