{#- The comment of each table and view ends with a mark that distinguishes it from another project's relation of the
    same name; BigQuery uses the label `managed-by`. -#}
{% macro postgres__alter_relation_comment(relation, comment) %}
    comment on {{ 'table' if relation.type != 'view' else 'view' }} {{ relation }} is
    {{ postgres_escape_comment((comment ~ ' (made by tlc-pipeline)').strip()) }};
{% endmacro %}

{#- Also marks a model that has no description, such as the staging model of a new dataset. -#}
{% macro postgres__persist_docs(relation, model, for_relation, for_columns) %}
    {% if for_relation and config.persist_relation_docs() and not model.description %}
        {% do run_query(alter_relation_comment(relation, '')) %}
    {% endif %}
    {{ default__persist_docs(relation, model, for_relation, for_columns) }}
{% endmacro %}
