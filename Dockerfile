# The image of both processes; the chart chooses by its command (`killswitch reactor`, `killswitch manager`).
#
#   docker build --tag registry.example/killswitch:0.1.0 .
#
# For a build that can be repeated pin the base: --build-arg BASE=python@sha256:…
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
# A virtual environment is all that goes on: no sources, no build tools, no pip cache.
RUN python -m venv /opt/killswitch && /opt/killswitch/bin/pip install --no-cache-dir '.[otel]'

FROM ${BASE}
COPY --from=build /opt/killswitch /opt/killswitch
# The chart mounts the root read-only, with a /tmp to write to.
ENV PATH=/opt/killswitch/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# As the chart's securityContext; a number, since runAsNonRoot cannot judge a name.
USER 65532:65532
ENTRYPOINT ["killswitch"]
