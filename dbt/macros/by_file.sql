{#- Models kept by file: a build atomically replaces the rows of every changed file, and deletes those of files that are
    no longer loaded. A model selects only the rows of changed files (`is_in_changed_files`); if everything is
    rebuilt, these are all files. -#}

{#- Everything is done in one transaction. With `partitioned`, each file is filled as a separate table and attached as a
    partition at the end; readers only wait for that step. `not_null` (columns), `checks` (name: condition) and
    `one_row_a_file` in `meta` become constraints, which the database verifies in one pass over the new rows. -#}
{% materialization by_file, adapter='postgres' %}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set rebuild = existing is none or should_full_refresh() -%}
    {%- do run_hooks(pre_hooks) -%}
    {%- do drop_replaced(target_relation) if config.meta_get('partitioned') -%}
    {%- call statement('by_parallel_workers') -%}
        {#- CREATE TABLE AS can use parallel workers, but the planner overestimates the cost of passing rows. It also
            overestimates the number of groups, so it would sort a month's rows, and underestimates the number of trips
            that are not excluded, so it would use nested loops. -#}
        set local parallel_tuple_cost = 0; set local parallel_setup_cost = 0;
        set local enable_sort = off; set local enable_nestloop = off;
    {%- endcall -%}
    {%- if config.meta_get('partitioned') -%}
        {%- do replace_partitions(target_relation, existing, rebuild) -%}
    {%- else -%}
        {%- do replace_rows(target_relation, existing, rebuild) -%}
    {%- endif -%}
    {%- do persist_docs(target_relation, model) if rebuild -%}
    {%- do run_hooks(post_hooks) -%}
    {{ adapter.commit() }}
    {%- do drop_replaced(target_relation) if config.meta_get('partitioned') -%}
    {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% macro replace_rows(target_relation, existing, rebuild) %}
    {%- set new_rows = make_temp_relation(target_relation) -%}
    {%- call statement('new_rows') -%}
        {#- Two dbt runs at the same time must not both insert a file's rows, as neither would delete the other's. -#}
        {%- if not rebuild %} lock table {{ target_relation }} in share row exclusive mode; {%- endif %}
        create temporary table {{ new_rows.include(schema=false, database=false) }} as {{ sql }};
    {%- endcall -%}
    {%- call statement('main') -%}
        {%- if rebuild -%}
        {%- if existing is not none %} drop {{ existing.type }} {{ existing }} cascade; {%- endif %}
        create table {{ target_relation }} as select * from {{ new_rows.include(schema=false, database=false) }};
        alter table {{ target_relation }} {{ constraints() }};
        {# Otherwise rows cannot be deleted once a publication has the table. #}
        alter table {{ target_relation }} replica identity full;
        {%- else -%}
        {%- set columns = get_quoted_csv(adapter.get_columns_in_relation(target_relation) | map(attribute='name') | list) %}
        delete from {{ target_relation }} where {{ is_in_changed_files('filename') }};
        insert into {{ target_relation }} ({{ columns }})
        select {{ columns }} from {{ new_rows.include(schema=false, database=false) }};
        {%- endif %}
        drop table {{ new_rows.include(schema=false, database=false) }};
    {%- endcall -%}
{% endmacro %}

{% macro replace_partitions(target_relation, existing, rebuild) %}
    {%- set files = changed_files() -%}
    {%- set table = adapter.quote(target_relation.identifier ~ '_n') if rebuild else target_relation -%}
    {%- set schema = target_relation.include(database=false, identifier=false) -%}
    {%- if rebuild -%}
    {%- call statement('empty_table') -%}
        drop table if exists {{ schema }}.{{ table }} cascade;
        create temporary table columns_of_{{ target_relation.identifier }} as {{ sql }} limit 0;
        create table {{ schema }}.{{ table }} (like columns_of_{{ target_relation.identifier }}) partition by list (filename);
        drop table columns_of_{{ target_relation.identifier }};
        alter table {{ schema }}.{{ table }} {{ constraints() }};
    {%- endcall -%}
    {%- set table = schema ~ '.' ~ table -%}
    {%- endif -%}
    {%- for file in files if file.loaded and file.facts -%}
    {%- set filling = partition_relation(target_relation, file.filename, '_n') -%}
    {%- call statement('fill_' ~ loop.index) -%}
        drop table if exists {{ filling }};
        create table {{ filling }} as
        select * from (
            {{ sql }}
        ) as trips where filename = '{{ file.filename }}';
        alter table {{ filling }} add constraint one_file check (filename = '{{ file.filename }}'), {{ constraints() }};
        create index on {{ filling }} using brin (pickup_datetime);
    {%- endcall -%}
    {%- endfor -%}
    {%- call statement('main') -%}
        {%- if existing is not none %}
        {{ rename_replaced(target_relation, existing, rebuild, files) }}
        {%- endif %}
        {%- for file in files %}
        drop table if exists {{ partition_relation(target_relation, file.filename) }};
        {%- if file.loaded and file.facts %}
        {%- set filling = partition_relation(target_relation, file.filename, '_n') %}
        alter table {{ table }} attach partition {{ filling }} for values in ('{{ file.filename }}');
        alter table {{ filling }} drop constraint one_file;
        alter table {{ filling }} rename to {{ adapter.quote(partition_relation(target_relation, file.filename).identifier) }};
        {%- endif %}
        {%- endfor %}
        {%- if rebuild %}
        alter table {{ table }} rename to {{ adapter.quote(target_relation.identifier) }};
        {%- endif %}
        select 1;
    {%- endcall -%}
{% endmacro %}

{#- A dropped partition needs some 14 of the locks that the server has for all sessions (max_locks_per_transaction), a
    renamed one a single lock. So replaced partitions are dropped later, in several transactions; if dbt is killed before,
    by the next build. -#}
{% macro rename_replaced(relation, existing, rebuild, files) %}
    {%- if existing.type != 'table' %}
    drop {{ existing.type }} {{ existing }} cascade;
    {%- else %}
    do $$
    declare
        partition record;
    begin
        for partition in
            select oid::regclass as name, relname from pg_class
            where oid in (select inhrelid from pg_inherits where inhparent = '{{ existing }}'::regclass)
            {%- if not rebuild %}
            and relname in ({%- for file in files %}'{{ partition_relation(relation, file.filename).identifier }}', {% endfor %}'')
            {%- endif %}
        loop
            {%- if not rebuild %}
            execute format('alter table %s detach partition %s', '{{ existing }}'::regclass, partition.name);
            {%- endif %}
            execute format('alter table %s rename to %I', partition.name, partition.relname || '_o');
        end loop;
    end $$;
    {%- if rebuild %}
    alter table {{ existing }} rename to {{ adapter.quote(relation.identifier ~ '_o') }};
    {%- endif %}
    {%- endif %}
{% endmacro %}

{% macro drop_replaced(relation) %}
    {%- set of_files -%}
    {%- for file in changed_files() %}, ('{{ partition_relation(relation, file.filename, '_o') }}'){% endfor -%}
    {%- endset -%}
    {%- set tables = run_query(
        "select coalesce(part.relid, to_regclass(replaced.name))::regclass::text"
        " from (values ('" ~ relation.incorporate(path={'identifier': relation.identifier ~ '_o'}) ~ "')" ~ of_files ~ ")"
        " as replaced (name) left join pg_partition_tree(to_regclass(replaced.name)) as part on true"
        " where to_regclass(replaced.name) is not null order by part.level desc") -%}
    {%- for batch in tables | map(attribute=0) | unique | batch(20) -%}
    {%- call statement('drop_replaced_' ~ loop.index) %} drop table {{ batch | join(', ') }} cascade; {% endcall -%}
    {{ adapter.commit() }}
    {%- endfor -%}
{% endmacro %}

{% macro partition_relation(relation, filename, suffix='') -%}
    {{ return(api.Relation.create(
        database=relation.database, schema=relation.schema,
        identifier=relation.identifier ~ '_' ~ filename.removesuffix('.csv').replace('-', '_') ~ suffix)) }}
{%- endmacro %}

{% macro constraints() -%}
    {%- set constraints = [] -%}
    {%- if config.meta_get('one_row_a_file') -%}{%- do constraints.append('add primary key (filename)') -%}{%- endif -%}
    {%- for column in config.meta_get('not_null', []) -%}
    {%- do constraints.append('alter column ' ~ column ~ ' set not null') -%}
    {%- endfor -%}
    {%- for name, condition in config.meta_get('checks', {}).items() -%}
    {%- do constraints.append('add constraint ' ~ name ~ ' check (' ~ condition ~ ')') -%}
    {%- endfor -%}
    {{ constraints | join(', ') }}
{%- endmacro %}

{#- dbt-bigquery does not support custom strategies, so this overrides 'merge': one atomic statement replaces the rows
    of the changed files. BigQuery would run two MERGEs that only insert at the same time, such as that of a killed build
    and that of the next one, and both would insert a new file's rows. So each is in a transaction that also changes the
    row of `build_lock`, of which BigQuery cancels the later one.
    https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency -#}
{% macro bigquery__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates) %}
    BEGIN TRANSACTION;
    update {{ build_lock() }} set token = generate_uuid() where true;
    {{ get_insert_overwrite_merge_sql(target, source, dest_columns, [is_in_changed_files('DBT_INTERNAL_DEST.filename')]) }};
    COMMIT TRANSACTION
{% endmacro %}

{% macro build_lock() -%}
    {{ return(this.incorporate(path={'identifier': 'build_lock'})) }}
{%- endmacro %}

{% macro create_build_lock() -%}
    {% if target.type == 'bigquery' %}create table if not exists {{ build_lock() }} as select '' as token{% endif %}
{%- endmacro %}
