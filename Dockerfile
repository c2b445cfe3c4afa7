# One image per service: docker build --build-arg SERVICE=advisor .
# BASE_IMAGE must have Python >= 3.11 with venv. Exact versions and hashes come from requirements.lock.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG SERVICE
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1
RUN python3 -m venv /opt/neap && /opt/neap/bin/python -m pip install --quiet --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml requirements.lock ./
COPY libs libs
COPY services services
RUN test -n "$SERVICE" || { echo "build with --build-arg SERVICE=<room>"; exit 1; }; \
    room=services/$SERVICE; test -d "$room" || room=libs/$SERVICE; \
    extra=; test "$SERVICE" != console || extra=libs/virtual; \
    VIRTUAL_ENV=/opt/neap /opt/neap/bin/uv pip install --quiet --build-constraint requirements.lock \
        --constraint requirements.lock "./libs/common[otlp]" $extra "./$room" \
 && /opt/neap/bin/python -m pip uninstall --quiet --yes uv

FROM ${BASE_IMAGE}
ARG SERVICE
LABEL org.opencontainers.image.title="neap-${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="neap: fine-grained resource management for Kubernetes"
COPY --from=build /opt/neap /opt/neap
COPY examples /opt/neap/examples
RUN mkdir -p /run/neap && chown 65532:65532 /run/neap
ENV PATH=/opt/neap/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NEAP_SERVICE=${SERVICE} NEAP_PROCESS__HEALTH_PORT=8080
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=2s --timeout=2s --start-period=20s --retries=15 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["sh", "-c", "exec python -m neap.$NEAP_SERVICE \"$@\"", "--"]
