"""What a model must be before a node loads it: a checkpoint's files are its trainer's.

`check_folder` reads names, JSON and the headers of the weights: no code, nothing that lies
elsewhere, no quantized weights (each processor multiplies those in its own way), no layers that
the files do not hold (they would be filled before anybody notices that they are missing).
`check_config` admits the families whose packed pass was compared with their own one, token by
token (tests/training/test_families.py). A sampler and a verifier that see different
models would cost an honest miner its bond, so what is not known is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch

from marketplace.protocol.errors import CheckpointError
from marketplace.protocol.strict_json import check_depth

FAMILIES: Final = frozenset(
    {
        "apertus", "arcee", "cohere", "ernie4_5", "exaone4", "gemma", "glm", "glm4", "gpt2",
        "gpt_neox", "granite", "helium", "hunyuan_v1_dense", "llama", "ministral3", "mistral",
        "mixtral", "olmo", "olmo2", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen3", "qwen3_moe",
        "seed_oss", "smollm3", "stablelm", "starcoder2",
    }
)  # fmt: skip
"""Values of model_type in config.json that can be sampled, verified and trained."""

MAX_LAYERS: Final = 1024
MAX_DEPTH: Final = 64
"""Of arrays and objects inside each other, in every JSON file."""

FOLDER_FIX: Final = (
    "name a folder with config.json, tokenizer.json and model.safetensors "
    "(python -m marketplace.gym.base_model makes one)"
)

_INDEX: Final = "model.safetensors.index.json"
_ELSEWHERE: Final = ("auto_map", "quantization_config", "transformers_weights")
"""Keys that bring in code, kernels of their own, or files under other names."""


def check_folder(path: Path) -> None:
    """Raises CheckpointError, naming the file, unless a folder holds a whole model and only that.

    Reads no weights. What is malformed beyond that, transformers finds.
    """
    # transformers would look for an adapter's base by itself, under whatever name it gives.
    if (path / "adapter_config.json").exists():
        raise CheckpointError(
            f"{str(path)!r} holds an adapter, no whole model",
            fix="load it with its base (marketplace.gym.adapters.load_adapter)",
        )
    missing = [name for name in ("config.json", "tokenizer.json") if not (path / name).is_file()]
    if not any(path.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise CheckpointError(f"{str(path)!r} has no {' and no '.join(missing)}", fix=FOLDER_FIX)
    for file in sorted(path.glob("*.json")):
        _check_depth(file)  # transformers reads most of them by itself
    for name in ("config.json", "tokenizer_config.json"):
        if not (path / name).exists():
            continue
        record = _object(path / name)
        # An attention or experts "implementation" may name code on a hub.
        asked = [key for key in record if key in _ELSEWHERE or key.endswith("_implementation")]
        if asked and record[asked[0]] is not None:
            raise CheckpointError(
                f"{str(path / name)!r} asks for code or weights of its own ({asked[0]})",
                fix="use plain weights of a model that transformers itself knows",
            )
    if (path / _INDEX).exists():
        _check_index(path)


def check_config(config: Any) -> None:
    """Raises CheckpointError for models whose packed pass may not be what they sample."""
    kind = config.model_type
    if kind not in FAMILIES:
        raise CheckpointError(
            f"model type {kind!r:.60} is none whose packed pass was checked against its own",
            fix=f"use one of {', '.join(sorted(FAMILIES))}",
        )
    if not getattr(config, "is_causal", True) or getattr(
        config, "use_bidirectional_attention", False
    ):
        raise CheckpointError(
            f"model type {kind!r} is set to attend to later tokens, which no sampler has yet",
            fix="take is_causal and use_bidirectional_attention out of config.json",
        )
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None)
    # Some families ask use_sliding_window, others look at the window alone.
    if kinds or window is not None:
        raise CheckpointError(
            f"model type {kind!r} has layers other than full attention ({sorted(kinds) or window})",
            fix="use a decoder with full attention and rotary or learned positions, such as Llama",
        )
    if not config.max_position_embeddings or config.max_position_embeddings < 1:
        raise CheckpointError(
            f"max_position_embeddings is {config.max_position_embeddings}, no length of a context"
        )
    # A packed tree holds sequences of many lengths, and a cache grows with each token: a rotation
    # that depends on the longest position seen gives each of them other numbers.
    rope = getattr(config, "rope_parameters", None) or {}
    named = {str(one.get("rope_type")) for one in (rope, *rope.values()) if isinstance(one, dict)}
    if changing := named & {"dynamic", "longrope"}:
        raise CheckpointError(
            f"model type {kind!r} has {min(map(str, changing))} rotary positions, "
            "which depend on the length of the sequence",
            fix="use a model with fixed rotary positions, such as default, linear, yarn or llama3",
        )


def check_tokenizer(tokenizer: Any) -> None:
    """Raises CheckpointError for a tokenizer that may cut one text in several ways.

    BPE dropout and unigram sampling are training aids that a tokenizer.json can turn on for all:
    then a verifier reads other tokens than the miner did.
    """
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise CheckpointError(
            f"the tokenizer {type(tokenizer).__name__} is none of the kind of tokenizer.json",
            fix="save a fast tokenizer",
        )
    for name in ("dropout", "alpha", "nbest_size"):
        if value := getattr(inner.model, name, None):
            raise CheckpointError(
                f"the tokenizer draws its tokens at random ({name} is {value})",
                fix=f"set {name} to null in tokenizer.json",
            )


def refuse_panic(error: BaseException) -> None:
    """Raises CheckpointError if the error is a panic of the tokenizer's library, else returns.

    Such a panic is no Exception, so that a tokenizer.json whose pattern goes astray on some prompt
    would end every node that reads it.
    """
    if type(error).__name__ == "PanicException":
        raise CheckpointError(
            f"the tokenizer can't cut this text: {str(error)[:200]}",
            fix="save a tokenizer whose patterns don't go back over a text again and again",
        ) from error


def check_sizes(path: Path, config: Any) -> None:
    """Raises CheckpointError if a config describes more weights than the folder's files hold.

    They would be allocated and filled with random numbers first: a file of some kilobytes could
    take all memory of every verifier.
    """
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    if not 0 < config.num_hidden_layers <= MAX_LAYERS:
        raise CheckpointError(
            f"num_hidden_layers is {config.num_hidden_layers}, and {MAX_LAYERS} is the most"
        )
    held = 0
    for file in path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  (a reader, no mapping)
                count = 1
                for side in weights.get_slice(name).get_shape():
                    count *= side
                held += count
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    wanted = sum(one.numel() for one in model.parameters())
    # What is computed and not stored (rotations, masks) is small beside the weights.
    computed = sum(one.numel() for one in model.buffers())
    # Twice: those that lack a few are told which, once they are read.
    if wanted > 2 * held or computed > max(held, 1 << 24):
        raise CheckpointError(
            f"config.json describes {wanted:,} weights and {computed:,} more numbers, and the "
            f"files of {str(path)!r} hold {held:,}: it lacks weights",
            fix="save the config of the model whose weights these are",
        )


def _check_index(path: Path) -> None:
    files = _object(path / _INDEX).get("weight_map")
    names = set(files.values()) if isinstance(files, dict) else {None}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (path / name).is_file():
            raise CheckpointError(
                f"{str(path / _INDEX)!r} names {name!r:.100}, which is no file of its folder",
                fix="save the model again with save_pretrained",
            )


def _check_depth(path: Path) -> None:
    try:
        check_depth(path.read_text("utf-8"), depth=MAX_DEPTH)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not JSON: {error}") from None


def _object(path: Path) -> dict[str, Any]:
    try:
        record: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{str(path)!r} holds no object")
    return record
