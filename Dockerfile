# syntax=docker/dockerfile:1
# The server of `headstart serve`, with the models in /models:
#   docker build -t headstart .
#   docker run --rm -p 127.0.0.1:8000:8000 -e HEADSTART_TOKEN -v "$PWD/runs:/models:ro" headstart
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
# For nodes of a Ray cluster (deploy/ray-cluster.yaml): --build-arg PACKAGES='.[scale]'
ARG PACKAGES=.[serve]
# With the versions that the tests have passed with. No compiler is needed: all of them come as wheels.
# hadolint ignore=SC2086
RUN python -m venv --without-pip /opt/headstart \
    && python -m pip --python /opt/headstart/bin/python install --no-cache-dir --no-compile \
       --constraint constraints.txt ${PACKAGES}

FROM python:${PYTHON}
# The server runs Python and nothing else; what installs and builds stays in the first stage.
RUN python -m pip uninstall --yes pip setuptools wheel \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin headstart
COPY --from=build /opt/headstart /opt/headstart
ENV PATH=/opt/headstart/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["headstart", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--watch", "/models"]
