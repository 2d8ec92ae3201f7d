{#- Expands `where: __under_test__` in tests. -#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if where == '__under_test__' -%}
        {%- set where = is_under_test('filename') -%}
    {%- endif -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') as dbt_subquery' if where else relation) }}
{%- endmacro %}
