"""A language model as a policy: loaded from a local folder, asked for log-probabilities.

Never downloads, never unpickles, never runs code that comes with a model. Log-probabilities are
natural logs of softmax(logits / temperature) over the whole vocabulary, in fp32. They come
from token trees (packing.py): shared prefixes are computed once and the language-model head
runs on completion tokens only. Needs the extra [verify] (torch, transformers).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

# Threads that wait by spinning take the cores from everybody else: with two busy model processes
# on two cores everything took ten times as long. Read once, when torch loads its thread pool.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from marketplace.gym.admission import (
    FOLDER_FIX,
    check_config,
    check_folder,
    check_sizes,
    check_tokenizer,
    refuse_panic,
)
from marketplace.gym.head import head_replaced, is_plain
from marketplace.gym.packing import TOKEN_BUDGET, Pack, TokenGroup, pack_groups, prefetched
from marketplace.gym.team import ALONE, Team
from marketplace.gym.tree_attention import (
    FLEX,
    attention_of,
    attention_set,
    flex_mask,
    flex_padding,
    tree_blocks,
)
from marketplace.protocol.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Finish = Literal["stop", "length"]


class Codec:
    """Text to tokens and back, and the rule of where a completion ends.

    A completion ends at the first token that is one of stop_ids or that completes a stop
    string, and that token belongs to it; else at max_tokens. Samplers and verifiers share this
    class, so that both see the same end.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: frozenset[int], vocabulary: int
    ) -> None:
        self._tokenizer = tokenizer
        self._silent = frozenset(tokenizer.all_special_ids)
        self.stop_ids = stop_ids
        self.vocabulary = vocabulary

    def encode(self, text: str) -> tuple[int, ...]:
        """The tokens of a prompt, with what the tokenizer itself puts in front (BOS or nothing)."""
        return tuple(self._ids(text))

    def encode_completion(self, text: str, stop: Sequence[str]) -> tuple[int, ...]:
        """The tokens of a completion that came as text, closed by the first stop string or EOS.

        A special token's name in the text is text: who writes it must not end a turn with it.
        """
        end = stop[0] if stop else ""
        tokens = self._ids(text + end, add_special_tokens=False, split_special_tokens=True)
        return tuple(tokens) if stop else (*tokens, *sorted(self.stop_ids)[:1])

    def completion(self, tokens: Sequence[int], stop: Sequence[str]) -> str:
        """The text of completion tokens: special tokens left out, cut at the first stop string."""
        text = self._text(tokens)
        places = [place for place in map(text.find, stop) if place >= 0]
        return text[: min(places)] if places else text

    def ends(self, tokens: Sequence[int], stop: Sequence[str]) -> bool:
        """Whether a completion ends with the last of these tokens."""
        if tokens[-1] in self.stop_ids:
            return True
        # A token is at least one byte, so a stop string lies within as many tokens as it has
        # bytes. Decoding the tail only keeps sampling linear in the length.
        window = max((len(one.encode()) for one in stop), default=0)
        if not window:
            return False
        # Special tokens give no text, so they don't take up the window either.
        spoken = (token for token in reversed(tokens) if token not in self._silent)
        tail = self._text(list(islice(spoken, window))[::-1])
        return any(one in tail for one in stop)

    def finish(self, tokens: Sequence[int], stop: Sequence[str], max_tokens: int) -> Finish | None:
        """How a whole completion ended; None if it goes on after its end or breaks off before."""
        if not 0 < len(tokens) <= max_tokens:
            return None
        if any(self.ends(tokens[:end], stop) for end in range(1, len(tokens))):
            return None
        if self.ends(tokens, stop):
            return "stop"
        return "length" if len(tokens) == max_tokens else None

    def _ids(self, text: str, **how: bool) -> list[int]:
        try:
            return list(self._tokenizer(text, **how).input_ids)
        except BaseException as error:
            refuse_panic(error)
            raise

    def _text(self, tokens: Sequence[int]) -> str:
        try:
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))
        except BaseException as error:
            refuse_panic(error)
            raise


@dataclass(frozen=True, slots=True)
class Policy:
    """A causal language model with its codec. context: most tokens of a sequence.

    model: in evaluation mode (no dropout), fp32 unless the caller moves it. team: the processes
    that hold it together.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: Codec
    context: int
    team: Team = ALONE

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The policy in a local folder of safetensors with config and tokenizer.

        Raises CheckpointError, and nothing else, if the folder is incomplete, malformed, holds code
        or weights that are not finite, or its model is of a kind that token trees do not fit
        (admission.py).
        """
        path = Path(folder)
        check_folder(path)
        try:
            return cls._loaded(path)
        except CheckpointError:
            raise
        # Malformed content surfaces as almost any exception from transformers, and a node that
        # loads what strangers registered must not end by one of them.
        except Exception as error:
            raise CheckpointError(
                f"the model in {str(path)!r} can't be loaded: "
                f"{type(error).__name__}: {str(error)[:300]}",
                fix=FOLDER_FIX,
            ) from error
        except BaseException as error:
            refuse_panic(error)
            raise

    @classmethod
    def _loaded(cls, path: Path) -> Self:
        # Imported here: it takes seconds, and Policy.of needs none of it.
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a node loads often, and its log is not a terminal
        place = path.absolute()
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        check_config(config)
        check_sizes(path, config)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        model, loading = loaded
        tokenizer = AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False
        )
        # transformers fills these by chance, and no two machines would have the same model.
        if absent := sorted(map(str, (*loading["missing_keys"], *loading["mismatched_keys"]))):
            raise CheckpointError(
                f"the model in {str(path)!r} lacks weights: {', '.join(absent)[:300]}",
                fix="save all of its weights",
            )
        for name, weights in model.named_parameters():
            if not bool(weights.isfinite().all()):
                raise CheckpointError(f"weight {name} of {str(path)!r} is not finite")
        return cls.of(model, tokenizer)

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Self:
        """The policy of a model in memory. Raises CheckpointError as `load`."""
        config = model.config
        check_config(config)
        check_tokenizer(tokenizer)
        if (highest := max(tokenizer.get_vocab().values())) >= config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has token {highest}, the model a vocabulary of {config.vocab_size}",
                fix="save the tokenizer that the model was trained with",
            )
        stop = {tokenizer.eos_token_id}
        for ids in (config.eos_token_id, model.generation_config.eos_token_id):
            stop.update(ids if isinstance(ids, list | tuple) else (ids,))
        codec = Codec(
            tokenizer,
            frozenset(one for one in stop if one is not None),
            int(config.vocab_size),
        )
        return cls(model.eval(), tokenizer, codec, int(config.max_position_embeddings))

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device


@overload
def pack_logprobs(policy: Policy, pack: Pack, temperature: float) -> torch.Tensor: ...
@overload
def pack_logprobs(
    policy: Policy, pack: Pack, temperature: float, *, want_entropy: Literal[True]
) -> tuple[torch.Tensor, torch.Tensor]: ...
def pack_logprobs(
    policy: Policy, pack: Pack, temperature: float, *, want_entropy: bool = False
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """[m] fp32 log-probabilities of the scored nodes of a pack, differentiable if grad is on.

    want_entropy: also [m], the entropy in nats of the distribution that each was drawn from.
    The head runs on the m (or fewer) nodes that predict them, never on the prompt, and its
    logits are never all there at once (head.py).
    """
    device = policy.device
    # Several scored nodes may follow one node: its row of the head serves them all.
    predictors, places = np.unique(pack.parents[pack.scored], return_inverse=True)
    rows = torch.from_numpy(places).to(device)
    targets = torch.from_numpy(pack.tokens[pack.scored]).to(device)
    model = _unwrapped(policy.model)
    trunk, inner = pack.trunk()
    with ExitStack() as stack:
        asked = stack.enter_context(reading(policy, trunk))
        asked["logits_to_keep"] = torch.from_numpy(inner[predictors]).to(device)
        if is_plain(model):
            stack.enter_context(
                head_replaced(
                    model, rows, targets, temperature=temperature, want_entropy=want_entropy
                )
            )
            found = policy.model(**asked).logits
            logprobs, entropy = found[: len(targets)], found[len(targets) :]
        else:  # a head that is adapted, or scales its logits: all of them, but these rows only
            whole = (policy.model(**asked).logits[0].float() / temperature).log_softmax(-1)
            logprobs, entropy = whole[rows, targets], -(whole.exp() * whole).sum(-1)[rows]
    return (logprobs, entropy) if want_entropy else logprobs


@contextmanager
def reading(policy: Policy, pack: Pack) -> Iterator[dict[str, Any]]:
    """Within it the policy's model reads the whole pack at once if called with what this gives."""
    device, model = policy.device, _unwrapped(policy.model)
    asked: dict[str, Any] = {
        "input_ids": torch.from_numpy(pack.tokens)[None].to(device),
        "position_ids": torch.from_numpy(pack.positions)[None].to(device),
        "use_cache": False,
    }
    if model.config._attn_implementation == FLEX:
        if pack.is_chain():  # plain causal attention: no mask to make
            with attention_set(model.config.get_text_config(), "sdpa"):
                yield asked
        else:
            for name in ("input_ids", "position_ids"):
                asked[name] = torch.nn.functional.pad(asked[name], (0, flex_padding(pack)))
            yield asked | {"attention_mask": flex_mask(pack, device)}
        return
    tree = tree_blocks(pack, model)
    if tree is None and (mask := pack.attention()) is not None:
        asked["attention_mask"] = torch.from_numpy(mask)[None, None].to(device)
    with attention_of(model, tree) as keywords:
        yield asked | keywords


def _unwrapped(model: Any) -> Any:
    """The transformers model inside an adapter of PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def completion_logprobs(
    policy: Policy,
    groups: Sequence[TokenGroup],
    temperature: float,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> list[list[tuple[float, ...]]]:
    """Per group, per completion: the log-probability of each of its tokens, without gradient."""
    mine: dict[tuple[int, int], tuple[float, ...]] = {}
    for pack, counts in policy.team.share(prefetched(pack_groups(groups, token_budget))):
        values = pack_logprobs(policy, pack, temperature).cpu().numpy()
        if counts:
            for span in pack.spans:
                mine[span.group, span.completion] = tuple(values[span.rows].tolist())
    found: list[list[tuple[float, ...]]] = [[()] * len(group.completions) for group in groups]
    for part in policy.team.gather(mine):
        for (group, completion), row in part.items():
            found[group][completion] = row
    return found
