"""What the description of a Keras network may contain: only classes that are listed here.

Keras makes objects of a description before it reads a weight: layers, and inside them initialisers,
regularisers, constraints. Its safe mode, which is to keep code out, was bypassed several times. So
everything that names a class is compared with these lists first.
"""

from __future__ import annotations

from typing import Any

from bandstand.errors import CheckpointError

LAYERS = frozenset(
    {
        *("InputLayer", "Conv2D", "MaxPooling2D", "AveragePooling2D", "BatchNormalization"),
        *("Activation", "Flatten", "Dense", "Dropout", "GlobalAveragePooling2D"),
    }
)
"""`Lambda` and `TFSMLayer`, which contain or load code, are not among them."""
ACTIVATIONS = frozenset({"relu", "elu", "tanh", "sigmoid", "softmax", "linear"})

_INITIALISERS = frozenset(
    {
        *("Zeros", "Ones", "Constant", "RandomNormal", "RandomUniform", "TruncatedNormal"),
        *("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"),
        *("VarianceScaling", "Orthogonal"),
        *("zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"),
    }
)
_INNER = {
    "initializer": (_INITIALISERS, "keras.initializers"),
    "regularizer": (frozenset({"L1", "L2", "L1L2", "l1", "l2"}), "keras.regularizers"),
    "constraint": (frozenset({"MaxNorm", "NonNeg", "UnitNorm"}), "keras.constraints"),
    "dtype": (frozenset({"DTypePolicy"}), "keras"),
}
"""Classes of what a layer has, and their module, by the last word of the option's name."""
_DTYPES = frozenset({"float16", "float32", "mixed_float16"})
_OBJECT_KEYS = frozenset(
    {"module", "class_name", "config", "registered_name", "build_config", "shared_object_id"}
)


def check_layer(layer: dict[str, Any]) -> None:
    """Compare a layer and all objects in it with what is allowed.

    Raises:
        CheckpointError: a class, an activation or an option that is not allowed; the message names
            it.
        LookupError, TypeError: it is no description of a layer.
    """
    _check_object(layer, LAYERS, "keras.layers", "layer")
    for name, value in layer["config"].items():
        if name == "activation":
            _check_activation(value)
        else:
            check_option(name, value)


def check_option(name: str, value: Any) -> None:
    """Compare an option of a layer, or of the network, with what is allowed.

    Raises:
        CheckpointError: it has an object that is not allowed.
        LookupError, TypeError: it is no description of an object.
    """
    kind = name.rpartition("_")[2]
    allowed, module = _INNER.get(kind, (frozenset(), ""))
    if isinstance(value, dict):
        _check_object(value, allowed, module, name)
        if not all(map(_is_plain, value["config"].values())):
            raise CheckpointError(f"the {name} has an object inside it, which is not allowed here")
    elif not _is_plain(value):
        raise CheckpointError(f"the option {name} has an object in it, which is not allowed here")
    elif isinstance(value, str) and kind in _INNER and value not in allowed | _DTYPES:
        raise CheckpointError(f"the {name} {value!r} is not allowed here")


def _check_activation(value: Any) -> None:
    # Code comes as an object, not as a name.
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise CheckpointError(f"the activation {value!r} is not allowed here")


def _check_object(
    described: dict[str, Any], allowed: frozenset[str], module: str, what: str
) -> None:
    kind, found = described["class_name"], described.get("module") or module
    registered = described.get("registered_name")
    if kind not in allowed or found != module or registered not in (None, kind):
        raise CheckpointError(
            f"a {what} {found}.{kind}{f' ({registered})' if registered else ''} is not allowed "
            f"here, only {', '.join(sorted(allowed)) or 'plain values'}"
        )
    if surplus := described.keys() - _OBJECT_KEYS:
        raise CheckpointError(
            f"a {what} has {', '.join(sorted(surplus))}, which is not allowed here"
        )
    for part in ("config", "build_config"):
        if not isinstance(described.get(part) or {}, dict):
            raise TypeError(f"{part} of a {what}")


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text, nothing, or lists of these."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
