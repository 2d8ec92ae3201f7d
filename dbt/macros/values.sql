{#- How staging converts loaded values. Invalid values become NULL and are counted in file_quality. -#}

{% macro tripid() %}{{ return(adapter.dispatch('tripid')()) }}{% endmacro %}

{% macro postgres__tripid() %}unique_row_id{% endmacro %}

{% macro bigquery__tripid() %}to_hex(unique_row_id){% endmacro %}

{#- An integer code of at most nine digits, from text. -#}
{% macro code(column) %}{{ return(adapter.dispatch('code')(column)) }}{% endmacro %}

{#- Most codes are one digit; converting it by its ASCII code takes a quarter of the time of other ways. -#}
{% macro postgres__code(column) -%}
    case
        when octet_length({{ column }}) = 1 and ascii({{ column }}) between 48 and 57 then ascii({{ column }}) - 48
        when octet_length({{ column }}) between 1 and 9 and ltrim({{ column }}, '0123456789') = ''
            then cast({{ column }} as integer)
        when {{ column }} ~ '^-[0-9]{1,9}$' then cast({{ column }} as integer)
    end
{%- endmacro %}

{% macro bigquery__code(column) -%}
    case when regexp_contains({{ column }}, r'^-?[0-9]{1,9}$') then cast({{ column }} as int64) end
{%- endmacro %}

{#- An amount or a distance below a billion, exactly as in the file. -#}
{% macro amount(column) %}{{ return(adapter.dispatch('amount')(column)) }}{% endmacro %}

{#- Nearly all amounts have two decimals at most; converting their cents is faster than PostgreSQL's cast, which goes
    through text (1.3 s instead of 2.3 s for seven columns of 600,000 rows). Zero, the most frequent tip and toll, is
    faster still. The cast of other amounts would leave out the digits after the fifteenth. -#}
{% macro postgres__amount(column) -%}
    case
        when {{ column }} = 0 then 0.00
        when abs({{ column }}) < 1e9 then
            case when round({{ column }} * 100) / 100 = {{ column }}
                then cast(round({{ column }} * 100) as bigint) * 0.01
                else round(cast(cast({{ column }} as text) as numeric), 9) end
    end
{%- endmacro %}

{% macro bigquery__amount(column) %}case when abs({{ column }}) < 1e9 then cast({{ column }} as numeric) end{% endmacro %}

{#- A time in the years 1 to 9999, the range that both warehouses and their clients support. -#}
{% macro moment(column) %}{{ return(adapter.dispatch('moment')(column)) }}{% endmacro %}

{% macro postgres__moment(column) -%}
    case when {{ column }} >= timestamp '0001-01-01' and {{ column }} < timestamp '10000-01-01' then {{ column }} end
{%- endmacro %}

{% macro bigquery__moment(column) %}{{ column }}{% endmacro %}

{#- Minutes from one time to another, to two decimals. -#}
{% macro minutes_between(start, end) %}{{ return(adapter.dispatch('minutes_between')(start, end)) }}{% endmacro %}

{% macro postgres__minutes_between(start, end) -%}
    round(cast(extract(epoch from {{ end }} - {{ start }}) as numeric) / 60, 2)
{%- endmacro %}

{% macro bigquery__minutes_between(start, end) -%}
    round(timestamp_diff({{ end }}, {{ start }}, microsecond) / numeric '60000000', 2)
{%- endmacro %}

{#- 1 for Monday to 7 for Sunday. -#}
{% macro weekday(column) %}{{ return(adapter.dispatch('weekday')(column)) }}{% endmacro %}

{% macro postgres__weekday(column) %}cast(extract(isodow from {{ column }}) as integer){% endmacro %}

{% macro bigquery__weekday(column) %}mod(extract(dayofweek from {{ column }}) + 5, 7) + 1{% endmacro %}

{#- The names in TLC's data dictionary of March 2025. -#}
{% macro vendor_name(vendorid) -%}
    case {{ vendorid }}
        when 1 then 'Creative Mobile Technologies'
        when 2 then 'Curb Mobility'
        when 6 then 'Myle Technologies'
        when 7 then 'Helix'
    end
{%- endmacro %}
