"""A trained model as files: safetensors, TorchScript, `torch.export`, ONNX, `.cyxmodel`, and a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cyxwiz.compute.export.card import write_card
from cyxwiz.compute.export.cyxmodel import read_cyxmodel, write_archive, write_binary, write_directory
from cyxwiz.compute.export.programs import write_onnx, write_torch_export, write_torchscript
from cyxwiz.compute.export.trained import Saved, Trained, inference_module
from cyxwiz.compute.export.weights import read_safetensors, write_safetensors
from cyxwiz.domain.errors import CyxError

__all__ = [
    "Saved",
    "Trained",
    "export",
    "inference_module",
    "read_cyxmodel",
    "read_safetensors",
    "write_archive",
    "write_binary",
    "write_card",
    "write_directory",
    "write_onnx",
    "write_safetensors",
    "write_torch_export",
    "write_torchscript",
]

_WRITERS = {
    "torchscript": ("model.torchscript.pt", write_torchscript),
    "torch_export": ("model.pt2", write_torch_export),
    "onnx": ("model.onnx", write_onnx),
    "cyxmodel": ("model.cyxmodel", write_binary),
    "cyxmodel_directory": ("model.cyxmodel.tar", write_archive),
}


def export(trained: Trained, formats: Sequence[str], folder: Path, say: Callable[[str], object]) -> list[Path]:
    """Writes the model in each of these formats (see `graph.hyperparameters.EXPORTS`), then its card, and names the
    files.

    Args:
        say: is told of a format that its writer broke down at, and which is left out: the training is not lost for it.

    Raises:
        CyxError: UNSUPPORTED when the model is too large for a format. OSError: the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for name in formats:
        file, write = _WRITERS[name]
        try:
            write(trained, folder / file)
        except (CyxError, OSError):
            raise
        except Exception as error:
            (folder / file).unlink(missing_ok=True)
            say(f"the model could not be written as {name}: {type(error).__name__}: {str(error)[:500]}")
        else:
            files.append(folder / file)
    write_card(trained, folder / "README.md", files)
    return [*files, folder / "README.md"]
