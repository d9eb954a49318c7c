"""Models in folders: ``model.save_pretrained(folder)`` and ``Model.from_pretrained(folder)``.

A folder holds ``model.safetensors``, the state dict, and ``config.json``, the arguments the model
was made with, both as Hugging Face's libraries have them. Reading one runs no code of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import re
import secrets
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import dualgraph as dg
from dualgraph import nn
from dualgraph.utils import Summary, summary
from dualgraph_compiler.errors import SerializationError

__all__ = ["Pretrained"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# A config is a page of text; and no size in it is larger than this, unless a tensor is.
LARGEST_CONFIG, LARGEST_SIZE = 1 << 20, 1024

_M = TypeVar("_M", bound="Pretrained")


class Pretrained:
    """What a model gains that names this beside `nn.Module`: folders, and a summary.

    Attributes:
        arguments: what the model was made with, by name.
        model_type: Hugging Face's name of the architecture, for models with its names of
            parameters: their ``config.json`` may say more than the constructor takes.
        prefix: of the parameters that a checkpoint of the bare network lacks, or of one with a
            head has in addition.
        ignored: patterns of names in checkpoints that the model has no use for.
        renamed: patterns of names in older checkpoints, and what replaces them.
    """

    arguments: dict[str, Any]
    model_type: ClassVar[str | None] = None
    prefix: ClassVar[str] = ""
    ignored: ClassVar[tuple[str, ...]] = ()
    renamed: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __new__(cls: type[_M], *args: Any, **kwargs: Any) -> _M:
        self = object.__new__(cls)
        # What does not fit is left to the constructor to refuse. A copy is made without arguments.
        with contextlib.suppress(TypeError):
            bound = _signature(cls).bind(*args, **kwargs)
            bound.apply_defaults()
            object.__setattr__(self, "arguments", dict(bound.arguments))
        return self

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` to a folder, made if need be.

        Both are written in full before either takes the place of an older one.

        Raises:
            SerializationError: the model was made with something that is no JSON value.
            OSError: a file cannot be written.
        """
        place = Path(folder)
        config: dict[str, Any] = {"architectures": [type(self).__name__]}
        if self.model_type is not None:
            config["model_type"] = self.model_type
        config |= {name: _plain(name, value) for name, value in self.arguments.items()}
        place.mkdir(parents=True, exist_ok=True)
        mark = secrets.token_hex(6)
        temporary = {name: place / f".{mark}.{name}" for name in (WEIGHTS, CONFIG)}
        try:
            dg.save(_without_twins(self.state_dict()), temporary[WEIGHTS])  # type: ignore[attr-defined]
            text = json.dumps(config, indent=2) + "\n"
            with temporary[CONFIG].open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            for name, written in temporary.items():
                written.replace(place / name)
        finally:
            for written in temporary.values():
                written.unlink(missing_ok=True)

    @classmethod
    def from_pretrained(cls: type[_M], folder: str | os.PathLike[str], *, device: Any = None) -> _M:
        """The model of a folder, in evaluation mode.

        Raises:
            FileNotFoundError: a file is missing.
            SerializationError: a file is damaged, or of another model.
        """
        place = Path(folder)
        state = dg.load(place / WEIGHTS)
        if not isinstance(state, dict) or not all(isinstance(v, dg.Tensor) for v in state.values()):
            raise SerializationError(f"{place / WEIGHTS} holds no state dict")
        arguments = _arguments(cls, place / CONFIG)
        _check_sizes(arguments, state, place)
        try:
            model = cls(**arguments)
        except (Exception, MemoryError) as error:
            raise SerializationError(
                f"cannot make a {cls.__name__} as {place / CONFIG} says: "
                f"{type(error).__name__}: {error}"
            ) from error
        _load(model, state, place / WEIGHTS)
        return model if device is None else model.to(device)  # type: ignore[attr-defined]

    def summary(self, *inputs: Any, depth: int | None = None) -> Summary:
        """The layers with their shapes, parameters and work, for these inputs.

        Without inputs, for those of the module's `example_inputs`.
        """
        if not inputs:
            module = sys.modules[type(self).__module__]
            inputs = module.example_inputs()
        return summary(self, *inputs, depth=depth)  # type: ignore[arg-type]


# -- the config -----------------------------------------------------------------------------------


def _signature(cls: Any) -> inspect.Signature:
    """What the constructor takes: not that of a class, which might be `__new__`'s."""
    found = inspect.signature(cls.__init__)
    return found.replace(parameters=list(found.parameters.values())[1:])


def _plain(name: str, value: Any) -> Any:
    """An argument as JSON has it: a config object as its fields, a layer's class as its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(name, dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(k): _plain(name, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, v) for v in value]
    if isinstance(value, type) and issubclass(value, nn.Module) and hasattr(nn, value.__name__):
        return value.__name__
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise SerializationError(
        f"cannot save a model made with {name}={value!r}: a config holds numbers, strings, lists "
        "and layers of dualgraph.nn"
    )


def _arguments(cls: type[Pretrained], path: Path) -> dict[str, Any]:
    """What the config of a folder says of the arguments of `cls`."""
    with path.open("rb") as file:
        text = file.read(LARGEST_CONFIG + 1)
    if len(text) > LARGEST_CONFIG:
        raise SerializationError(f"{path} is no config: it has more than {LARGEST_CONFIG:,} bytes")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SerializationError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise SerializationError(f"{path} is no config: expected an object, got {found!r:.60}")
    names = found.pop("architectures", [cls.__name__])
    kind = found.pop("model_type", None)
    foreign = kind is not None and kind == cls.model_type
    if not foreign and names != [cls.__name__]:
        raise SerializationError(f"{path} describes a model of {names!r:.80}, not {cls.__name__}")
    wanted = _signature(cls).parameters
    unknown = sorted(found.keys() - wanted.keys())
    if unknown and not foreign:
        raise SerializationError(
            f"{path}: {cls.__name__} has no argument {', '.join(map(repr, unknown[:5]))}"
        )
    hints = typing.get_type_hints(cls.__init__)
    given = {name: value for name, value in found.items() if name in wanted}
    return {name: _restored(name, value, hints.get(name), path) for name, value in given.items()}


def _restored(name: str, value: Any, hint: Any, path: Path) -> Any:
    """A JSON value as the annotation of its argument says."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds: tuple[Any, ...] = typing.get_args(hint) if union else (hint,)
    for kind in kinds:
        if isinstance(value, dict) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
            fields = {f.name for f in dataclasses.fields(kind)}
            if value.keys() - fields:
                raise SerializationError(f"{path}: {name} has other fields than {sorted(fields)}")
            return kind(**value)
        if isinstance(value, str) and typing.get_origin(kind) is type:
            layer = getattr(nn, value, None)
            if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
                raise SerializationError(f"{path}: {name} is {value!r}, which is no layer")
            return layer
    return value


def _check_sizes(arguments: Mapping[str, Any], state: Mapping[str, Any], place: Path) -> None:
    """No number in the config is larger than the tensors are, or than there are tensors.

    A few bytes of config so cannot ask for more memory than the weights themselves would need.
    """
    largest = max([LARGEST_SIZE, len(state), *(d for v in state.values() for d in v.shape)])
    for name, number in _numbers("", arguments):
        if abs(number) > largest:
            raise SerializationError(
                f"{place / CONFIG}: {name} = {number} does not fit {place / WEIGHTS}, whose "
                f"largest size is {largest}"
            )


def _numbers(name: str, value: Any) -> Any:
    if isinstance(value, int):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(name, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _numbers(name, dataclasses.asdict(value))


# -- the weights ----------------------------------------------------------------------------------


def _without_twins(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with each tensor once, under its first name."""
    seen: set[int] = set()
    found = {}
    for name, tensor in state.items():
        if tensor.numel() == 0 or tensor.data_ptr() not in seen:
            found[name] = tensor
            seen.add(tensor.data_ptr())
    return found


def _load(model: Any, state: dict[str, Any], path: Path) -> None:
    """Put the tensors of a checkpoint into a model, and set evaluation mode."""
    own = model.state_dict()
    found = _renamed(model, state, own)
    places: dict[int, str] = {own[name].data_ptr(): name for name in found if name in own}
    # Batch norms of older checkpoints did not count batches.
    needed = [n for n in own if not n.endswith(".num_batches_tracked")]
    missing = [n for n in needed if n not in found and own[n].data_ptr() not in places]
    unexpected = [n for n in found if n not in own]
    for what, names in (("lacks", missing), ("has, which the model has not,", unexpected)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise SerializationError(
                f"{path} {what} {', '.join(map(repr, sorted(names)[:5]))}{more}: it is of another "
                f"model than {type(model).__name__}, or was made with other options"
            )
    for name, tensor in found.items():
        if tuple(tensor.shape) != tuple(own[name].shape):
            raise SerializationError(
                f"{path}: {name!r} has shape {list(tensor.shape)}, the model "
                f"{list(own[name].shape)}"
            )
        if tensor.dtype.is_floating_point != own[name].dtype.is_floating_point:
            raise SerializationError(f"{path}: {name!r} is {tensor.dtype}, not {own[name].dtype}")
    model.load_state_dict(found, strict=False)
    model.eval()


def _renamed(model: Any, state: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint under the names that the model has."""
    found = {}
    for name, tensor in state.items():
        for old, new in model.renamed:
            name = re.sub(old, new, name)
        found[name] = tensor
    prefix = f"{model.prefix}." if model.prefix else ""
    if prefix and not any(n in own for n in found):
        with_head = any(n.startswith(prefix) for n in found)
        if with_head:  # of which the bare network takes its part
            found = {n.removeprefix(prefix): t for n, t in found.items() if n.startswith(prefix)}
        else:
            found = {prefix + n: t for n, t in found.items()}
    return {n: t for n, t in found.items() if not any(re.fullmatch(p, n) for p in model.ignored)}
