{#- The comment of each table and view ends with a mark that distinguishes it from another project's relation of the
    same name; BigQuery uses the label `managed-by`. -#}
{% macro postgres__alter_relation_comment(relation, comment) %}
    comment on {{ 'table' if relation.type != 'view' else 'view' }} {{ relation }} is
    {{ postgres_escape_comment(comment ~ ' (made by tlc-pipeline)') }};
{% endmacro %}
