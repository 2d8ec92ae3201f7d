{#- The columns that every dataset in fact_trips has in its staging model, in no order that matters. -#}
{% macro trip_columns() %}
    {{ return([
        'tripid', 'filename', 'vendorid', 'ratecodeid', 'pickup_locationid', 'dropoff_locationid', 'pickup_datetime',
        'dropoff_datetime', 'store_and_fwd_flag', 'passenger_count', 'trip_distance', 'trip_type', 'fare_amount', 'extra',
        'mta_tax', 'tip_amount', 'tolls_amount', 'ehail_fee', 'improvement_surcharge', 'total_amount',
        'congestion_surcharge', 'airport_fee', 'cbd_congestion_fee', 'request_source', 'payment_type',
    ]) }}
{% endmacro %}

{#- What the trips of a service without fares are counted from: the columns that both kinds have. -#}
{% macro counted_columns() %}
    {{ return(['filename', 'pickup_locationid', 'dropoff_locationid', 'pickup_datetime', 'dropoff_datetime', 'trip_distance']) }}
{% endmacro %}

{#- The staging models of the datasets whose trips are in fact_trips or, with facts=false, of the others, as one. -#}
{% macro trips_of_all(facts, columns) -%}
    {%- for table, dataset in var('datasets').items() if dataset.facts == facts %}
    {{ 'union all' if not loop.first }}
    select '{{ dataset.service }}' as service_type, {{ columns | join(', ') }}
    from {{ ref('stg_' ~ table) }}
    {%- endfor %}
{%- endmacro %}

{#- What the marts call the services whose trips are in fact_trips or, with facts=false, the others. -#}
{% macro services(facts) %}
    {%- set names = [] -%}
    {%- for dataset in var('datasets').values() if dataset.facts == facts -%}{%- do names.append(dataset.service) -%}{%- endfor -%}
    {{ return(names) }}
{% endmacro %}
