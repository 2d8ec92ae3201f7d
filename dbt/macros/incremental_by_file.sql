{#- An incremental model by file: the rows of every changed file give way to the ones it has now, if any, at once. -#}

{% macro get_incremental_by_file_sql(arguments) %}
    delete from {{ arguments.target_relation }} where {{ is_in_changed_files('filename') }};
    {{ get_insert_into_sql(arguments.target_relation, arguments.temp_relation, arguments.dest_columns) }}
{% endmacro %}

{#- dbt-bigquery takes no strategies of a project's own, so this is what 'merge' means here: one atomic statement. -#}
{% macro bigquery__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates) %}
    {{ get_insert_overwrite_merge_sql(target, source, dest_columns, [is_in_changed_files('DBT_INTERNAL_DEST.filename')]) }}
{% endmacro %}
