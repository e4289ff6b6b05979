"""A policy as a gRPC service for Envoy's ext_proc.  Argument: the path of its socket."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import (
    ExternalProcessorServicer,
    add_ExternalProcessorServicer_to_server,
)
from envoy.type.v3.http_status_pb2 import HttpStatus

# Made once, as they are always the same.
GO_ON = ProcessingResponse(request_headers=HeadersResponse())
REFUSED = ProcessingResponse(immediate_response=ImmediateResponse(status=HttpStatus(code=403)))
_field = HeaderValueOption(header=HeaderValue(key="x-passed", raw_value=b"policy"))
MARKED = ProcessingResponse(
    response_headers=HeadersResponse(
        response=CommonResponse(header_mutation=HeaderMutation(set_headers=[_field]))
    )
)


class Policy(ExternalProcessorServicer):
    """Refuses robots, and marks each response."""

    async def Process(
        self, messages: AsyncIterator[ProcessingRequest], context: object
    ) -> AsyncIterator[ProcessingResponse]:
        async for message in messages:
            if message.HasField("response_headers"):
                yield MARKED
                continue
            agent = next(
                (each.raw_value for each in message.request_headers.headers.headers
                 if each.key == "user-agent"),
                b"",
            )  # fmt: skip
            yield REFUSED if b"robot" in agent else GO_ON


async def serve() -> None:
    server = grpc.aio.server()
    add_ExternalProcessorServicer_to_server(Policy(), server)
    server.add_insecure_port(f"unix:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(serve())
