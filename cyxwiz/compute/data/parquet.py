"""Parquet tables, read by pyarrow: numbers, text labels, lists of numbers of one length, pictures as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyxwiz.compute.data.columns import MISSING, Chosen, Columns, choose, fault
from cyxwiz.compute.data.dataset import Raw, check_size
from cyxwiz.compute.data.images import decoded
from cyxwiz.domain.errors import Code, CyxError, invalid

if TYPE_CHECKING:
    from cyxwiz.compute.data.dataset import Array

_LEAVE = "leave it out with ?features="


def read_parquet(uri: str, path: Path, options: Mapping[str, str], wanted: Columns) -> Raw:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise CyxError(Code.UNAVAILABLE, f"The dataset {uri} needs pyarrow; install cyxwiz[node].") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            chosen = choose(uri, names, options, wanted, named=True, by_name=True)
            metadata = file.metadata
            unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
            check_size(uri, unpacked)  # as the file says
            check_size(uri, metadata.num_rows * len(chosen.features), "values")
            picked = [names[index] for index in chosen.all]
            table = file.read(columns=picked, use_threads=False)
        check_size(uri, table.nbytes)
        if table.num_columns != len(set(picked)) or len(set(picked)) != len(picked):
            raise invalid(f"The dataset {uri} has several columns of one name; name others with ?features=.", uri=uri)
        made = _raw(uri, table, names, chosen, options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise invalid(f"The dataset {uri} is no readable parquet file: {str(error)[:200]}.", uri=uri) from error
    return replace(made, columns=chosen.columns, notes=chosen.notes)


def _raw(uri: str, table: Any, names: list[str], chosen: Chosen, options: Mapping[str, str]) -> Raw:
    import numpy as np

    if not table.num_rows:
        raise invalid(f"The dataset {uri} has no rows.", uri=uri)
    label = None if chosen.label is None else names[chosen.label]
    labels = np.empty(0) if label is None else _labels(uri, label, table[label], options)
    if MISSING not in options:
        for index in chosen.features:
            _no_nulls(uri, names[index], table[names[index]])
    if len(chosen.features) == 1:
        name = names[chosen.features[0]]
        column = table[name].combine_chunks()
        pictures = _pictures(column)
        if pictures is not None:
            return Raw(decoded(uri, pictures, options), labels)
        features = _nested(uri, name, column, options)
        return Raw(features if features.ndim > 1 else features[:, None], labels, standardize=features.ndim == 1)
    columns: list[Array] = []
    for index in chosen.features:
        array = _nested(uri, names[index], table[names[index]].combine_chunks(), options)
        if array.ndim > 1:
            raise invalid(
                f"The dataset {uri}: column {names[index]} holds lists; then it must be the only feature: "
                f"?features={names[index]}.",
                uri=uri,
            )
        columns.append(array.astype(np.float32))
    return Raw(np.stack(columns, axis=1), labels, standardize=True)


def _no_nulls(uri: str, name: str, column: Any) -> None:
    if column.null_count:
        raise fault(uri, _null_row(column) + 1, name, "null")


def _null_row(column: Any) -> int:
    """The first, from 0."""
    return column.is_null().index(True).as_py()


def _nested(uri: str, name: str, column: Any, options: Mapping[str, str], remedy: str = _LEAVE) -> Array:
    """A column of numbers, or of lists of numbers of one shape, as an array."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types: Any = pa.types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    shape = [len(column)]
    while any(check(column.type) for check in lists):
        _no_nulls(uri, name, column)
        lengths = pc.call_function("list_value_length", [column]).unique().to_pylist()
        if len(lengths) != 1 or not lengths[0]:
            raise invalid(f"The dataset {uri}: column {name} holds lists of different lengths, or empty ones.", uri=uri)
        shape.append(lengths[0])
        column = column.flatten()
    if column.null_count and MISSING not in options:
        raise invalid(f"The dataset {uri}: column {name} holds missing values.", uri=uri)
    kind = column.type
    if types.is_decimal(kind) and kind.scale == 0 and kind.precision < 19:
        column = column.cast(pa.int64())
    elif types.is_decimal(kind) or types.is_null(kind) or (types.is_boolean(kind) and column.null_count):
        column = column.cast(pa.float64())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise invalid(f"The dataset {uri}: column {name} holds {_word(kind)}, no numbers; {remedy}.", uri=uri)
    return column.to_numpy(zero_copy_only=False).reshape(shape)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    types: Any = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _word(kind: Any) -> str:
    """What a type holds, as a user would say it."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return "text" if _is_text(kind) else str(kind)


def _pictures(column: Any) -> list[bytes] | None:
    """The files in a column of bytes, or of structures with `bytes` as the hub's image sets have them."""
    import pyarrow as pa

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = column.field("bytes")
    types: Any = pa.types
    if not any(check(column.type) for check in (types.is_binary, types.is_large_binary, types.is_binary_view)):
        return None
    return [value or b"" for value in column.to_pylist()]


def _labels(uri: str, name: str, column: Any, options: Mapping[str, str]) -> Array:
    import numpy as np
    import pyarrow as pa

    if column.null_count:
        row = _null_row(column)
        raise invalid(f"The dataset {uri} has no label in sample {row} (from 0); fill or drop it.", uri=uri, sample=row)
    column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return _nested(uri, name, column, options, "name another column with ?label=")
