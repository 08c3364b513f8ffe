"""`model export`: a registered checkpoint in the forms that other tools read, with a model card."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.chain.reads import MarketReader
from marketplace.cli.context import of
from marketplace.cli.output import say
from marketplace.gym.modules import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_adapter, is_router
from marketplace.protocol.errors import CheckpointError, ConfigError, StorageError
from marketplace.protocol.hashing import ZERO32
from marketplace.storage.cid import Cid
from marketplace.storage.rooms import MANIFEST_NAME
from marketplace.storage.store import ContentStore, reading
from verifier_node.checking import fetch_spec
from verifier_node.checkpoints import CheckpointCache

if TYPE_CHECKING:
    from trainer.card import Origin

SPEC_SECONDS = 30.0
FORMS = ("safetensors", "peft", "gguf")
_PROBE = "Two numbers are added: 12 + 30 = "


def export(
    ctx: typer.Context,
    checkpoint: Annotated[int, typer.Argument(min=1, help="checkpoint id")],
    folder: Annotated[Path, typer.Argument(help="new folder")],
    to: Annotated[str, typer.Option(help="safetensors, peft (adapters only) or gguf")] = (
        "safetensors"
    ),
    gguf_type: Annotated[str, typer.Option(help="f32, f16, bf16 or q8_0")] = "f16",
) -> None:
    """Write a checkpoint into a new folder for other tools, with a model card of its lineage, data
    and evaluation. An adapter becomes whole weights unless --to is peft."""
    from trainer.gguf_export import KINDS

    if to not in FORMS:
        raise ConfigError(f"there is no form {to!r}", fix=f"use one of {', '.join(FORMS)}")
    if to == "gguf" and gguf_type not in KINDS:
        raise ConfigError(
            f"there is no GGUF type {gguf_type!r}", fix=f"use one of {', '.join(KINDS)}"
        )
    if folder.exists():
        raise ConfigError(f"{folder} exists already", fix="name a new folder")
    context = of(ctx)
    reader, store = context.reader(), context.store()
    cache = CheckpointCache(reader, store, context.folder("checkpoints"))
    source = cache.folder(checkpoint)
    if to == "peft" and not is_adapter(source):
        raise ConfigError(
            f"checkpoint {checkpoint} holds whole weights, not an adapter",
            fix="use --to safetensors",
        )
    if is_router(source):
        raise ConfigError(
            f"checkpoint {checkpoint} is a router, which has no weights of a model",
            fix="export the experts that it asks",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{str(folder)!r} can't be made: {error.strerror or error}", fix="name another folder"
        ) from error
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        made = Path(work) / "export"
        made.mkdir()
        if to == "peft":
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
                shutil.copyfile(source / name, made / name)
        elif to == "gguf":
            _write_gguf(
                cache, checkpoint, made / f"checkpoint-{checkpoint}-{gguf_type}.gguf", gguf_type
            )
        else:
            _write_safetensors(cache, checkpoint, source, made)
        (made / "README.md").write_text(_card(reader, store, checkpoint, source), "utf-8")
        made.rename(folder)
    print(folder)


def _write_safetensors(cache: CheckpointCache, checkpoint: int, source: Path, made: Path) -> None:
    if is_adapter(source):
        policy = cache.policy(checkpoint)
        policy.model.save_pretrained(made)
        policy.tokenizer.save_pretrained(made)
        return
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in (MANIFEST_NAME, "README.md"):
            shutil.copyfile(file, made / file.name)


def _write_gguf(cache: CheckpointCache, checkpoint: int, file: Path, kind: str) -> None:
    from trainer.gguf_export import LIMITS, largest_difference, write_gguf

    policy = cache.policy(checkpoint)
    write_gguf(policy, file, kind=kind, name=f"tracemarket checkpoint {checkpoint}")
    found = largest_difference(policy, file, _PROBE)
    if not found <= LIMITS[kind]:
        raise CheckpointError(
            f"read back, the logits differ by {found:.2g}: the file is not this checkpoint's model",
            fix="export to safetensors, and use llama.cpp's convert_hf_to_gguf.py",
        )
    say(f"read back: logits differ by {found:.2g} at most on a short prompt ({kind})")


def _card(reader: MarketReader, store: ContentStore, checkpoint: int, source: Path) -> str:
    from trainer.card import check_evaluations, check_record, model_card
    from trainer.checkpoint import TRAINING_NAME, read_record
    from trainer.measured import read_evaluations

    record = None
    if (source / TRAINING_NAME).exists():
        record = check_record(read_record(source))
    own = read_evaluations(source, claims=False)
    origin = _origin(reader, store, checkpoint, source)
    found = check_evaluations(own or read_evaluations(source))
    return model_card(origin, record, found, measured=bool(own))


def _batches(reader: MarketReader, checkpoint: int, source: Path) -> list[int]:
    """What a checkpoint was trained on. Raises CheckpointError where its own list does not lead to
    the dataset root that it is registered with: a card would say what the chain does not."""
    from trainer.records import TRAINING_NAME, parse_training, root_of

    registered = reader.checkpoint(checkpoint).dataset_root
    if registered == ZERO32:
        return []
    name = f"checkpoint {checkpoint}"
    with reading(source / TRAINING_NAME):
        data = (source / TRAINING_NAME).read_bytes()
    entries = parse_training(data, name).dataset.batches
    found = root_of(reader.deployment.chain_id, reader.deployment.address("market"), entries)
    if found != registered:
        raise CheckpointError(
            f"the batches of {name} lead to root 0x{found.hex()}, but it is registered with "
            f"0x{registered.hex()}",
            fix="export a checkpoint whose record is true",
        )
    return [entry.batch for entry in entries]


def _origin(reader: MarketReader, store: ContentStore, checkpoint: int, source: Path) -> Origin:
    """Everything from the chain; the record only says which batches to look up, and is proven."""
    from trainer.card import Ancestor, Origin

    chain = []
    number = checkpoint
    while number:
        one = reader.checkpoint(number)
        root = None if one.dataset_root == ZERO32 else "0x" + one.dataset_root.hex()
        cid = str(Cid.from_chain(one.content.digest, one.content.codec))
        chain.append(Ancestor(one.id, cid, one.trainer, root))
        number = one.parent
    bounties: set[int] = set()
    environments: dict[str, str] = {}
    for batch in _batches(reader, checkpoint, source):
        bounty = reader.bounty(reader.batch(batch).bounty)
        bounties.add(bounty.id)
        identity = bounty.terms.environment
        shown = "0x" + identity.hex()
        if shown not in environments:
            try:
                environments[shown] = fetch_spec(store, identity, SPEC_SECONDS).name
            except StorageError:
                environments[shown] = "its spec can't be had"
    return Origin(
        chain_id=reader.deployment.chain_id,
        market=reader.deployment.address("market"),
        chain=chain,
        bounties=sorted(bounties),
        environments=environments,
    )
