# The versions of what is installed are in requirements.lock (`make lock`), with the hashes of their files.
FROM python:3.13.14-slim-bookworm AS build

WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes --requirement requirements.lock
COPY . ./
# Editable, as the package finds sql/ and luigi.cfg beside itself; built with the setuptools that is locked.
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation --config-settings editable_mode=compat --editable . \
    && /venv/bin/pip check \
    && /venv/bin/python -m compileall -q pipeline

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
# Nothing but /data and /tmp is written to.
WORKDIR /app
USER 10001
ENTRYPOINT ["luigi", "--module", "pipeline"]
