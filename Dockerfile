# The images of modelfleet, each a target: operator, runtime, train.
#
# Dependencies and sources are layers apart: an edit of the sources rebuilds in seconds. All three run as 65532:65532
# with a read-only root; what they write goes to /tmp and to the volumes of their pod. Each dependency layer brings pip
# along for itself and drops it again. Locks are copied, not mounted: buildah takes a cached layer for good though a
# mounted file changed.
#
# The secrets `apt` and `pip` (the host's settings: mirrors, proxies) and `ca` (its certificate authorities) are
# optional and leave no trace in a layer; `python -m e2e.cluster.images build` passes them.
#
# Programs start with -P: the containers of a pod share /tmp, where they start, and what one that was taken over leaves
# there must not be what the one that fetches and verifies imports.

ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS python
RUN --mount=type=secret,id=apt,target=/etc/apt/apt.conf.d/99host \
    apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc/* /usr/share/man/* \
    && python3 -m venv --without-pip /opt/venv \
    && groupadd --gid 65532 modelfleet \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin modelfleet
ENV HOME=/tmp \
    PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/modelfleet \
    PYTHONUNBUFFERED=1
WORKDIR /tmp

FROM python AS operator-dependencies
COPY requirements/operator.txt /opt/venv/requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv /tmp/pip \
    && /tmp/pip/bin/pip --python /opt/venv/bin/python install \
       --no-cache-dir --only-binary :all: --require-hashes --requirement /opt/venv/requirements.txt \
    && rm -rf /tmp/pip

# OpenSSH's client brings a training job's source from ssh:// repositories.
FROM python AS runtime-dependencies
RUN --mount=type=secret,id=apt,target=/etc/apt/apt.conf.d/99host \
    apt-get update \
    && apt-get install --yes --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /usr/share/doc/* /usr/share/man/*
COPY requirements/runtime.txt /opt/venv/requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv /tmp/pip \
    && /tmp/pip/bin/pip --python /opt/venv/bin/python install \
       --no-cache-dir --only-binary :all: --require-hashes --no-deps --requirement /opt/venv/requirements.txt \
    && rm -rf /tmp/pip

# PyTorch with its CUDA libraries: one image for CPU and GPU nodes, at the price of its size.
FROM runtime-dependencies AS train-dependencies
COPY requirements/train.txt /opt/venv/requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv /tmp/pip \
    && /tmp/pip/bin/pip --python /opt/venv/bin/python install \
       --no-cache-dir --only-binary :all: --require-hashes --no-deps --requirement /opt/venv/requirements.txt \
    && rm -rf /tmp/pip

FROM operator-dependencies AS operator
LABEL org.opencontainers.image.title="modelfleet operator" \
      org.opencontainers.image.description="Takes machine-learning models from a Git commit to every gateway of a fleet" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY operator/modelfleet /opt/modelfleet/modelfleet
# Its root is read-only: what is not compiled here is compiled at every start.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/modelfleet
USER 65532:65532
ENTRYPOINT ["python", "-P", "-m", "modelfleet"]

# What runs in users' pods carries the contract and the runtime, nothing of the operator. ONNX Runtime would report the
# models it loads to its maker, and huggingface_hub what it is used for: the variables end that, also for a step's own
# script.
FROM runtime-dependencies AS runtime
LABEL org.opencontainers.image.title="modelfleet runtime" \
      org.opencontainers.image.description="Fetches, verifies and serves models (Open Inference Protocol v2)" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV HF_HUB_DISABLE_TELEMETRY=1 \
    ORT_DISABLE_TELEMETRY=1
COPY operator/modelfleet/__init__.py /opt/modelfleet/modelfleet/
COPY operator/modelfleet/api /opt/modelfleet/modelfleet/api
COPY operator/modelfleet/runtime /opt/modelfleet/modelfleet/runtime
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["python", "-P", "-m", "modelfleet.runtime"]

FROM train-dependencies AS train
LABEL org.opencontainers.image.title="modelfleet train" \
      org.opencontainers.image.description="PyTorch, ONNX export and quantization, and modelfleet's library for training steps" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV HF_HUB_DISABLE_TELEMETRY=1 \
    ORT_DISABLE_TELEMETRY=1
COPY operator/modelfleet/__init__.py /opt/modelfleet/modelfleet/
COPY operator/modelfleet/api /opt/modelfleet/modelfleet/api
COPY operator/modelfleet/runtime /opt/modelfleet/modelfleet/runtime
COPY examples/defect-inspection/*.py /opt/examples/defect-inspection/
USER 65532:65532
ENTRYPOINT ["python", "-P", "-m", "modelfleet.runtime"]
