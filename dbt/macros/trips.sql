{#- The columns that the staging model of every dataset in fact_trips has, in any order. -#}
{% macro trip_columns() %}
    {{ return([
        'tripid', 'filename', 'vendorid', 'ratecodeid', 'pickup_locationid', 'dropoff_locationid', 'pickup_zone_code',
        'dropoff_zone_code', 'pickup_datetime', 'dropoff_datetime', 'store_and_fwd_flag', 'passenger_count',
        'trip_distance', 'trip_type', 'fare_amount', 'extra', 'mta_tax', 'tip_amount', 'tolls_amount', 'ehail_fee',
        'improvement_surcharge', 'total_amount', 'congestion_surcharge', 'airport_fee', 'cbd_congestion_fee',
        'request_source', 'payment_type',
    ]) }}
{% endmacro %}

{#- The columns from which the trips of services without fares are counted; all staging models have them. -#}
{% macro counted_columns() %}
    {{ return(['filename', 'pickup_zone_code', 'pickup_datetime', 'dropoff_datetime', 'trip_distance']) }}
{% endmacro %}

{#- The staging models of all datasets whose trips are in fact_trips or, with facts=false, of all others, combined. -#}
{% macro trips_of_all(facts, columns) -%}
    {%- for table, dataset in var('datasets').items() if dataset.facts == facts %}
    {{ 'union all' if not loop.first }}
    select '{{ dataset.service }}' as service_type, {{ columns | join(', ') }}
    from {{ ref('stg_' ~ table) }}
    {%- endfor %}
{%- endmacro %}

{#- The names in the marts of the services whose trips are in fact_trips or, with facts=false, of the others. -#}
{% macro services(facts) %}
    {%- set names = [] -%}
    {%- for dataset in var('datasets').values() if dataset.facts == facts -%}{%- do names.append(dataset.service) -%}{%- endfor -%}
    {{ return(names) }}
{% endmacro %}

{#- The sum of counts over the rows that fulfil a condition, as an integer. -#}
{% macro sum_of(count, condition='true') -%}
    cast(sum(case when {{ condition }} then {{ count }} else 0 end) as {{ dbt.type_bigint() }})
{%- endmacro %}

{#- Whether a day is outside the month in a release file's name. -#}
{% macro outside_month(day, filename) -%}
    {{ dbt.date_trunc('month', 'cast(' ~ day ~ ' as timestamp)') }} <> cast({{ dbt.concat(["left(right(" ~ filename ~ ", 11), 7)", "'-01'"]) }} as timestamp)
{%- endmacro %}

{#- Missing or implausible values that trips_by_hour and file_quality count. -#}
{% macro quality_checks() %}
    {{ return({
        'unknown_vendors': 'has_fares and vendorid is null',
        'negative_fares': 'fare_amount < 0',
        'unknown_amounts': 'has_fares and (fare_amount is null or total_amount is null)',
        'zero_distances': 'trip_distance = 0',
        'no_durations': 'has_no_duration',
    }) }}
{% endmacro %}

{% macro quality_counts() -%}
    {%- for name, condition in quality_checks().items() %}
        count(case when {{ condition }} then 1 end) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}
