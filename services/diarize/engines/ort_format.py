"""Turn a model in onnxruntime's own ORT format back into ONNX; what is in the model does not belong here.

onnxruntime runs an ORT-format model as it was saved. Rewritten as ONNX it goes through all optimizations of the
machine at hand (weights dequantized once, blocked convolutions), and it can be cut in two.
"""

from typing import Any

import onnx
from onnxruntime.tools.ort_format_model.ort_flatbuffers_py import fbs


def onnx_from_ort(data: bytes) -> onnx.ModelProto:
    """Convert a model; values and names stay as they are. Schema: onnxruntime/core/flatbuffers/schema/ort.fbs."""
    model = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0).Model()
    opsets = [model.OpsetImport(i) for i in range(model.OpsetImportLength())]
    return onnx.ModelProto(
        ir_version=model.IrVersion(),
        graph=_graph(model.Graph()),
        opset_import=[onnx.OperatorSetIdProto(domain=_text(o.Domain()), version=o.Version()) for o in opsets],
    )


def _graph(graph: Any) -> onnx.GraphProto:
    values = {
        _text(value.Name()): value for value in (graph.NodeArgs(i) for i in range(graph.NodeArgsLength())) if value
    }
    return onnx.GraphProto(
        name="graph",
        node=[_node(graph.Nodes(i)) for i in range(graph.NodesLength())],
        initializer=[_tensor(graph.Initializers(i)) for i in range(graph.InitializersLength())],
        input=[_value(values[_text(graph.Inputs(i))]) for i in range(graph.InputsLength())],
        output=[_value(values[_text(graph.Outputs(i))]) for i in range(graph.OutputsLength())],
    )


def _node(node: Any) -> onnx.NodeProto:
    return onnx.NodeProto(
        op_type=_text(node.OpType()),
        domain=_text(node.Domain()),
        name=_text(node.Name()),
        input=[_text(node.Inputs(i)) for i in range(node.InputsLength())],
        output=[_text(node.Outputs(i)) for i in range(node.OutputsLength())],
        attribute=[_attribute(node.Attributes(i)) for i in range(node.AttributesLength())],
    )


def _attribute(attribute: Any) -> onnx.AttributeProto:
    kind, name = attribute.Type(), _text(attribute.Name())
    match kind:
        case onnx.AttributeProto.FLOAT:
            return onnx.AttributeProto(name=name, type=kind, f=attribute.F())
        case onnx.AttributeProto.INT:
            return onnx.AttributeProto(name=name, type=kind, i=attribute.I())
        case onnx.AttributeProto.STRING:
            return onnx.AttributeProto(name=name, type=kind, s=attribute.S())
        case onnx.AttributeProto.TENSOR:
            return onnx.AttributeProto(name=name, type=kind, t=_tensor(attribute.T()))
        case onnx.AttributeProto.GRAPH:
            return onnx.AttributeProto(name=name, type=kind, g=_graph(attribute.G()))
        case onnx.AttributeProto.FLOATS:
            floats = [attribute.Floats(i) for i in range(attribute.FloatsLength())]
            return onnx.AttributeProto(name=name, type=kind, floats=floats)
        case onnx.AttributeProto.INTS:
            ints = [attribute.Ints(i) for i in range(attribute.IntsLength())]
            return onnx.AttributeProto(name=name, type=kind, ints=ints)
        case onnx.AttributeProto.STRINGS:
            strings = [attribute.Strings(i) for i in range(attribute.StringsLength())]
            return onnx.AttributeProto(name=name, type=kind, strings=strings)
    raise ValueError(f"attribute {name} is of a kind that is not known: {kind}")


def _tensor(tensor: Any) -> onnx.TensorProto:
    return onnx.TensorProto(
        name=_text(tensor.Name()),
        data_type=tensor.DataType(),
        dims=[tensor.Dims(i) for i in range(tensor.DimsLength())],
        raw_data=tensor.RawDataAsNumpy().tobytes() if tensor.RawDataLength() else b"",
    )


def _value(value: Any) -> onnx.ValueInfoProto:
    union, typed = value.Type().Value(), fbs.TensorTypeAndShape.TensorTypeAndShape()
    typed.Init(union.Bytes, union.Pos)
    shape: list[str | int | None] | None = None
    if typed.Shape():
        dims = [typed.Shape().Dim(i).Value() for i in range(typed.Shape().DimLength())]
        shape = [_text(dim.DimParam()) or dim.DimValue() or None for dim in dims]
    return onnx.helper.make_tensor_value_info(_text(value.Name()), typed.ElemType(), shape)


def _text(raw: bytes | None) -> str:
    return raw.decode() if raw else ""
