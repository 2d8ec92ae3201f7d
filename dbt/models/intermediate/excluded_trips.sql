select tripid, service_type, filename, exclusion_reason
from {{ ref('int_trips') }}
where exclusion_reason is not null
