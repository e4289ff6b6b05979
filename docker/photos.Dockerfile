# The photo site as a service of its own, without sitio.  From the root of the project:
#
#     docker build -t photos:dev -f docker/photos.Dockerfile .

ARG BASE=docker.io/library/python:3.13-slim-trixie
FROM ${BASE}
COPY sitio/demo/site /photos
WORKDIR /photos
USER 65532:0
EXPOSE 8087
CMD ["python", "-m", "http.server", "8087"]
