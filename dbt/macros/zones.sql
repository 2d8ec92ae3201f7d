{#- Numbers 264 and 265 stand for unknown and for outside of New York. Their names changed with TLC's look-up of 2024:
    "Unknown, NV" and "Unknown, NA" became "Unknown, N/A" and "N/A, Outside of NYC". -#}
{% macro is_known_zone(zones) -%}
    {{ zones }}.locationid not in (264, 265) and {{ zones }}.borough not in ('Unknown', 'N/A')
{%- endmacro %}

{#- A zone's number as the trips have it. To compare texts costs a third of reading a number from each trip's. -#}
{% macro zone_code(zones) -%}
    cast({{ zones }}.locationid as {{ dbt.type_string() }})
{%- endmacro %}
