"""Traces by OpenTelemetry, and the request's id: what one program hands to the next with every call.

Nothing is traced unless OTEL_TRACES_EXPORTER says so; the other OTEL_* variables are read by OpenTelemetry itself. The
span of a request is the current one of its task, so that what it starts, and its log lines, belong to it.
"""

import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import structlog
from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

REQUEST_ID_KEY = "x-request-id"
Attributes = Mapping[str, str | int | float | bool]
_tracer = trace.get_tracer("stt")


def configure(exporter: str, program: str) -> None:
    """Send traces over OTLP (HTTP) where `exporter` is "otlp", by the name stt-<program> unless OTEL_* say another."""
    if exporter == "none":
        return
    # Loaded where it is used: who traces nothing starts sooner.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = {
        "service.name": f"stt-{program}",
        "service.version": version("stt-service"),
        "service.instance.id": socket.gethostname(),
    }
    provider = TracerProvider(resource=Resource(own).merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def begin(name: str, headers: Mapping[str, str], attributes: Attributes) -> Span:
    """Begin the span of a request that came with `headers`, in a task that ends with it; the caller ends the span."""
    span = _tracer.start_span(name, propagate.extract(headers), SpanKind.SERVER, attributes)
    # Never taken off again: the task's context goes with the task.
    context.attach(trace.set_span_in_context(span))
    return span


def request_id(given: str) -> str:
    """Return the id that a request came with, or a new one where it has none that can stand in a log."""
    return given if re.fullmatch(r"[\w.:-]{1,128}", given, re.ASCII) else uuid.uuid4().hex


@contextmanager
def calling(name: str, attributes: Attributes) -> Iterator[dict[str, str]]:
    """Trace a call to another program; gives the headers that go with it, the request's id among them.

    It is not the current span: generators are left in other contexts than they were entered in.
    """
    span = _tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    headers: dict[str, str] = {}
    propagate.inject(headers, trace.set_span_in_context(span))
    if of := structlog.contextvars.get_contextvars().get("request_id"):
        headers[REQUEST_ID_KEY] = of
    try:
        yield headers
    except Exception as error:
        fail(span, str(error))
        raise
    finally:
        span.end()


@contextmanager
def step(name: str, attributes: Attributes | None = None) -> Iterator[Span]:
    """Trace a step of a request's work, not in a generator."""
    with _tracer.start_as_current_span(name, attributes=attributes) as span:
        yield span


def fail(span: Span, why: str) -> None:
    """Say that what `span` stands for went wrong."""
    span.set_status(Status(StatusCode.ERROR, why))


def add_trace_id(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put the id of the trace into a log line, where there is one."""
    if (of := trace.get_current_span().get_span_context()).is_valid:
        event["trace_id"] = trace.format_trace_id(of.trace_id)
    return event
