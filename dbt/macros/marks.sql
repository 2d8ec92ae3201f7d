{#- The comment of each table and view ends with a mark, so that those of another project that have the same name are
    noticed. BigQuery has the label `managed-by` for it. -#}
{% macro postgres__alter_relation_comment(relation, comment) %}
    comment on {{ 'table' if relation.type != 'view' else 'view' }} {{ relation }} is
    {{ postgres_escape_comment(comment ~ ' (made by tlc-pipeline)') }};
{% endmacro %}
