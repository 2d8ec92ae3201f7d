{#- Zones 264 and 265 stand for unknown and for outside of New York. Their names changed with TLC's look-up of 2024:
    "Unknown, NV" and "Unknown, NA" became "Unknown, N/A" and "N/A, Outside of NYC". -#}
{% macro is_known_zone(zones) -%}
    {{ zones }}.locationid not in (264, 265) and {{ zones }}.borough not in ('Unknown', 'N/A')
{%- endmacro %}

{#- A zone's number as text, as in the loaded trips. Comparing text takes a third of the time of converting each trip's
    value to a number. -#}
{% macro zone_code(zones) -%}
    cast({{ zones }}.locationid as {{ dbt.type_string() }})
{%- endmacro %}
