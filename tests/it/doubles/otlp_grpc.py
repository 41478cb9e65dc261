"""Sends the bodies in a folder, named `<order>-<signal>`, to OTLP over gRPC, and prints each one's code and details.

Usage: otlp_grpc.py ADDRESS FOLDER [none|gzip] [NAME TOKEN|large]
With NAME only that body is sent: with a token, or 128 KiB of nothing in its place.
"""
import os
import sys

import grpc

SERVICES = {
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "profiles": "opentelemetry.proto.collector.profiles.v1.ProfilesService",
}

address, folder = sys.argv[1:3]
compression = grpc.Compression.Gzip if sys.argv[3:4] == ["gzip"] else grpc.Compression.NoCompression
only, token = (sys.argv[4], sys.argv[5]) if len(sys.argv) > 5 else (None, "")
with grpc.insecure_channel(address) as channel:
    for name in sorted(os.listdir(folder)):
        if only not in (None, name):
            continue
        with open(os.path.join(folder, name), "rb") as file:
            body = file.read()
        metadata = []
        if token == "large":
            body = bytes(128 * 1024)
        elif token:
            metadata = [("authorization", token)]
        call = channel.unary_unary(
            f"/{SERVICES[name.split('-')[1]]}/Export",
            request_serializer=lambda body: body,
            response_deserializer=lambda body: body,
        )
        try:
            answer = call(body, metadata=metadata, compression=compression, timeout=20)
            print("OK", answer)
        except grpc.RpcError as error:
            print(error.code().name, error.details(), error.trailing_metadata())
