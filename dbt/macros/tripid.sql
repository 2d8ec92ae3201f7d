{% macro tripid() %}{{ return(adapter.dispatch('tripid')()) }}{% endmacro %}

{% macro postgres__tripid() %}unique_row_id{% endmacro %}

{% macro bigquery__tripid() %}to_hex(unique_row_id){% endmacro %}
