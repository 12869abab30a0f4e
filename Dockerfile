# One image, three roles by command: serve, worker live, worker jobs.
# The CPU build of torch; another: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/saescope

COPY pyproject.toml constraints.txt README.md install.py ./
COPY app app
COPY migrations migrations
COPY worker worker
RUN TORCH_INDEX="$TORCH_INDEX" PIP_NO_CACHE_DIR=1 python install.py

# A user of its own: what is served comes from strangers' files.
RUN useradd --create-home saescope && mkdir /data && chown saescope /data
USER saescope
ENV PATH=/opt/saescope/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SAESCOPE_HOST=0.0.0.0 \
    SAESCOPE_DATA_DIR=/data
WORKDIR /data
VOLUME /data
EXPOSE 8000 8001

ENTRYPOINT ["saescope"]
CMD ["up"]
