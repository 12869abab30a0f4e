# Two images: `app` is the API, without torch; `worker` is a live or a jobs worker, or all of it in one.
#   docker build --target app -t saescope-app .
#   docker build --target worker -t saescope-worker .
# with a CUDA build of torch:
#   docker build --target worker -t saescope-worker-cuda \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim AS base
# A user of its own: what is served comes from strangers' files.
RUN useradd --create-home --uid 1000 saescope && mkdir /data && chown saescope /data
WORKDIR /opt/saescope

FROM base AS app-build
COPY pyproject.toml constraints.txt README.md install.py ./
COPY app app
COPY migrations migrations
RUN PIP_NO_CACHE_DIR=1 python install.py --app

FROM base AS worker-build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml constraints.txt README.md install.py ./
COPY app app
COPY migrations migrations
COPY worker worker
RUN TORCH_INDEX="$TORCH_INDEX" PIP_NO_CACHE_DIR=1 python install.py

FROM base AS run
ENV PATH=/opt/saescope/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SAESCOPE_DATA_DIR=/data
USER 1000
WORKDIR /data
VOLUME /data
ENTRYPOINT ["saescope"]

FROM run AS app
COPY --from=app-build /opt/saescope /opt/saescope
# Others reach a container's address: it waits for a key (docs/security.md).
ENV SAESCOPE_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=20s \
    CMD ["python", "-m", "app.healthy", "app"]
CMD ["serve"]

FROM run AS worker
COPY --from=worker-build /opt/saescope /opt/saescope
EXPOSE 8000 8001
CMD ["up"]
