"""A client that knows nothing but an address: it learns the services by reflection, then writes, reads, scans and watches.
Usage: python grpc_client.py HOST:PORT
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
described = ProtoReflectionDescriptorDatabase(channel)
pool = descriptor_pool.DescriptorPool(described)
DEADLINE_S = 30


def message(name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"continuum.v1.{name}"))


def call(service, method):
    """The method of a service, ready to be called."""
    found = pool.FindServiceByName(f"continuum.v1.{service}").FindMethodByName(method)
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    return kinds[found.client_streaming, found.server_streaming](
        f"/continuum.v1.{service}/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
    )


services = described.get_services()
for expected in ("continuum.v1.Concepts", "continuum.v1.Namespaces", "continuum.v1.Admin", "grpc.health.v1.Health"):
    assert expected in services, (expected, services)

call("Namespaces", "Create")(message("CreateNamespaceRequest")(name="from-python"), timeout=DEADLINE_S)

# Writes and reads: what was sent comes back as it was sent, number text and key order included.
Put, Get = message("PutRequest"), message("GetRequest")
sent = '{"b": 1.50, "a": "sch\\u00f6n"}'
put = call("Concepts", "Put")(
    Put(namespace="from-python", key="k/1", register=sent, return_concept=True), timeout=DEADLINE_S
)
assert list(put.clock.values()) == [1], put
got = call("Concepts", "Get")(Get(namespace="from-python", key="k/1"), timeout=DEADLINE_S).concept
assert json.loads(got.register.json) == json.loads(sent) and "1.50" in got.register.json, got

# Nothing is overwritten unread.
call("Concepts", "Put")(
    Put(namespace="from-python", key="k/1", register="2", if_context=got.context), timeout=DEADLINE_S
)
try:
    call("Concepts", "Put")(
        Put(namespace="from-python", key="k/1", register="3", if_context=got.context), timeout=DEADLINE_S
    )
    raise SystemExit("a write over what was not read was taken")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error

# A retry under the same name is not carried out twice.
Counter = message("CounterChange")
for _ in range(2):
    call("Concepts", "Put")(
        Put(namespace="from-python", key="hits", counter=Counter(delta=5), request_id="3f1c9a52-0f5e-4d1c-9a52-1c9a520f5e4d"),
        timeout=DEADLINE_S,
    )
hits = call("Concepts", "Get")(Get(namespace="from-python", key="hits"), timeout=DEADLINE_S).concept
assert hits.counter.total == 5, hits

# Many at once, each chunk acknowledged.
Write, BatchWrite = message("WriteRequest"), message("BatchWrite")
chunks = (
    Write(writes=[BatchWrite(put=Put(namespace="from-python", key=f"many/{chunk}/{number:03}", register=str(number)))
                  for number in range(100)])
    for chunk in range(5)
)
acknowledged = [answer.chunk for answer in call("Concepts", "Write")(chunks, timeout=DEADLINE_S)]
assert acknowledged == [0, 1, 2, 3, 4], acknowledged

# A scan of one moment, then a watch from there on.
pages = list(call("Concepts", "Scan")(message("ScanRequest")(namespace="from-python", prefix="many/"), timeout=DEADLINE_S))
keys = [concept.key for page in pages for concept in page.concepts]
assert len(keys) == 500 and keys == sorted(keys), len(keys)
watch = call("Concepts", "Watch")(
    message("WatchRequest")(namespace="from-python", prefix="many/", resume_token=pages[0].resume_token),
    timeout=DEADLINE_S,
)
next(watch)
call("Concepts", "Put")(Put(namespace="from-python", key="elsewhere", register="1"), timeout=DEADLINE_S)
call("Concepts", "Put")(Put(namespace="from-python", key="many/0/000", register='"new"'), timeout=DEADLINE_S)
call("Concepts", "Delete")(message("DeleteRequest")(namespace="from-python", key="many/0/001"), timeout=DEADLINE_S)
seen = []
for event in watch:
    seen += [(change.put.key, change.put.register.json) if change.HasField("put") else (change.deleted, None)
             for change in event.changes.changes]
    if len(seen) >= 2:
        break
watch.cancel()
assert seen == [("many/0/000", '"new"'), ("many/0/001", None)], seen

status = call("Admin", "Status")(message("StatusRequest")(), timeout=DEADLINE_S)
assert status.ready and status.namespaces == 1, status
print("by reflection: wrote, read, scanned and watched")
