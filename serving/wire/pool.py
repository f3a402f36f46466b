"""Message classes from the table in `schema`, in a pool of their own.

The default pool belongs to whoever imports TensorFlow; registering the same names there a second time
is an error, so these live in a private one.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}
_LINE = re.compile(r"(\w+) (\d+) ([*%]?)([\w.]+)(?: \|(\w+))?$")


def build(schema: str) -> descriptor_pool.DescriptorPool:
    """Returns a pool with the messages and enums of `schema` (the grammar is in `serving.wire.schema`).

    Raises:
      ValueError: a line is not of the grammar, or names a type that the table does not define.
    """
    files: list[descriptor_pb2.FileDescriptorProto] = []
    types: dict[str, Any] = {}
    current: Any = None
    pending: list[tuple[Any, str, re.Match[str]]] = []
    for line in filter(None, schema.splitlines()):
        word, *rest = line.split()
        if not line.startswith(" "):
            if word == "package":
                files.append(_file(rest[0], [file.name for file in files]))
            else:
                current = types[f"{files[-1].package}.{rest[0]}"] = _declare(files[-1], types, word, rest[0])
        elif isinstance(current, descriptor_pb2.EnumDescriptorProto):
            current.value.add(name=word, number=int(rest[0]))
        elif match := _LINE.match(line.strip()):
            pending.append((current, files[-1].package, match))
        else:
            raise ValueError(f"a field must read `name number type`. Received: {line!r}")
    names = {id(message): name for name, message in types.items()}
    for message, package, match in pending:
        _add_field(message, names[id(message)], package, types, match)
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool


def message_class(pool: descriptor_pool.DescriptorPool, name: str) -> Any:
    """Returns the class of the message with this full name."""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _file(package: str, dependencies: list[str]) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3", dependency=dependencies
    )


def _declare(file: Any, types: dict[str, Any], kind: str, name: str) -> Any:
    outer, _, own = name.rpartition(".")
    qualified = f"{file.package}.{outer}"
    if outer and qualified not in types:
        # An enum may stand before the message that it belongs to.
        types[qualified] = _declare(file, types, "message", outer)
    parent = types[qualified] if outer else file
    if kind == "enum":
        return parent.enum_type.add(name=own)
    known = types.get(f"{file.package}.{name}")
    return (
        known if known is not None else (parent.nested_type if outer else parent.message_type).add(name=own)
    )


def _add_field(message: Any, name: str, package: str, types: dict[str, Any], match: re.Match[str]) -> None:
    field_name, number, mark, type_name, oneof = match.groups()
    field = message.field.add(name=field_name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if mark:
        field.label = _Field.LABEL_REPEATED
    if mark == "%":
        entry = message.nested_type.add(name=_entry_name(field_name))
        entry.options.map_entry = True
        key, value = entry.field.add(name="key", number=1), entry.field.add(name="value", number=2)
        key.type, key.label, value.label = _Field.TYPE_STRING, _Field.LABEL_OPTIONAL, _Field.LABEL_OPTIONAL
        _set_type(value, package, types, type_name)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{name}.{entry.name}"
        return
    _set_type(field, package, types, type_name)
    if oneof:
        known = [declared.name for declared in message.oneof_decl]
        if oneof not in known:
            message.oneof_decl.add(name=oneof)
            known.append(oneof)
        field.oneof_index = known.index(oneof)


def _set_type(field: Any, package: str, types: dict[str, Any], type_name: str) -> None:
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
        return
    for qualified in (f"{package}.{type_name}", type_name):
        if qualified in types:
            enum = isinstance(types[qualified], descriptor_pb2.EnumDescriptorProto)
            field.type = _Field.TYPE_ENUM if enum else _Field.TYPE_MESSAGE
            field.type_name = f".{qualified}"
            return
    raise ValueError(f"`{field.name}` must have a type of the table. Received: {type_name}")


def _entry_name(field_name: str) -> str:
    return "".join(part.capitalize() for part in field_name.split("_")) + "Entry"
