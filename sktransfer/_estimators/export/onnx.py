"""A program as an ONNX file, with the labels and what they mean."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer._files.replacing import replace_file, write_all
from sktransfer._images.shapes import Shape
from sktransfer._networks.device import autocast

# Of the operators that the file is made of: the lowest that torch's exporter writes.
OPSET = 18

# A file of ONNX is one message, which cannot be larger. The graph has its share.
MOST_BYTES = 2**31 - 2**24

# Any but 0 and 1, which torch.export would take for constants.
N_TO_TRACE = 2


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return where a file can be written; raise an OSError if it cannot."""
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; name a file in it.")
    if not place.parent.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r}: there is no folder {str(place.parent)!r}; make it "
            "first."
        )
    return place


def check_packages() -> None:
    """Raise an ImportError that names the extra unless ONNX files can be written."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"to_onnx needs the packages onnx and onnxscript ({error}); install them "
            'with: pip install "sktransfer[onnx]"'
        ) from error


def check_bytes(program: nn.Module) -> None:
    """Raise a ValueError if a program is too large for a file of ONNX."""
    tensors = [*program.parameters(), *program.buffers()]
    n_bytes = sum(tensor.nbytes for tensor in tensors)
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"the network has {n_bytes / 2**30:.1f} GiB of weights, and a file of ONNX "
            "at most 2; pass to_torch() to torch.export instead."
        )


def choose_labels(classes: np.ndarray) -> np.ndarray | None:
    """Return classes as ONNX can hold them, int64 or str; None if it cannot."""
    values = classes.tolist()
    if all(type(value) is int and abs(value) < 2**63 for value in values):
        return np.array(values, dtype=np.int64)
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    return None


def describe_classes(classes: np.ndarray) -> str:
    """Write classes as a list in JSON; what it has no form for, as Python shows it."""
    return json.dumps(classes.tolist(), default=repr, ensure_ascii=False)


def convert(program: nn.Module, image_shape: Shape, outputs: tuple[str, ...]) -> Any:
    """Make a model of ONNX from a program.

    Parameters
    ----------
    program : torch.nn.Module
        Maps images, uint8, to a tensor or a tuple of tensors, one row per image.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.

    outputs : tuple of str
        Names of what it returns.

    Returns
    -------
    onnx.ModelProto
    """
    images = torch.zeros(N_TO_TRACE, *image_shape, dtype=torch.uint8)
    shapes = {"images": {0: torch.export.Dim("n_images")}}
    with autocast("float32", images.device), torch.no_grad():
        traced = torch.export.export(program, (images,), dynamic_shapes=shapes)
        converted: Any = torch.onnx.export(
            traced,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=list(outputs),
            opset_version=OPSET,
            # Runtimes do this when they load a file. onnxscript 0.7.2 never ends
            # with eva02_tiny_patch14_224 of timm, while it takes more and more memory.
            optimize=False,
            verbose=False,
        )
    model = converted.model_proto
    forget_origin(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n_images"
    return model


def forget_origin(model: Any) -> None:
    """Delete what the exporter notes about each operation: where its code lies here."""
    graph = model.graph
    parts = [graph.node, graph.value_info, graph.initializer, graph.input, graph.output]
    for part in (graph, *(part for some in parts for part in some)):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def name_labels(model: Any, labels: np.ndarray) -> None:
    """Replace the positions among the outputs of a model by labels."""
    from onnx import TensorProto, helper

    kind = TensorProto.INT64 if labels.dtype == np.int64 else TensorProto.STRING
    values = [v if kind == TensorProto.INT64 else v.encode() for v in labels.tolist()]
    graph = model.graph
    graph.initializer.append(helper.make_tensor("classes", kind, [len(values)], values))
    graph.node.append(helper.make_node("Gather", ["classes", "positions"], ["labels"]))
    at = [output.name for output in graph.output].index("positions")
    del graph.output[at]
    graph.output.append(helper.make_tensor_value_info("labels", kind, ["n_images"]))


def write_model(
    program: nn.Module,
    image_shape: Shape,
    path: str | os.PathLike[str],
    classes: np.ndarray | None = None,
) -> None:
    """Write a program as a file of ONNX, whole or not at all.

    Parameters
    ----------
    program : torch.nn.Module
        Maps images to features or, if there are classes, to probabilities and the
        positions of the most probable ones.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.

    path : str or path-like
        Where the file is written.

    classes : ndarray of shape (n_classes,), default=None
        Labels in the order of the probabilities.
    """
    place = check_path(path)
    check_packages()
    check_bytes(program)
    from onnx import checker, helper

    notes = {"image_shape": json.dumps(image_shape)}
    if classes is None:
        model = convert(program, image_shape, ("features",))
    else:
        labels = choose_labels(classes)
        last = "labels" if labels is None else "positions"
        model = convert(program, image_shape, ("probabilities", last))
        if labels is not None:
            name_labels(model, labels)
        notes["classes"] = describe_classes(classes)
        notes["labels"] = "positions in classes" if labels is None else "classes"
    helper.set_model_props(model, notes)
    checker.check_model(model)
    with replace_file(place) as file:
        write_all(file, [model.SerializeToString()])
