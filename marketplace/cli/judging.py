"""A verifier's judge, from the options of `verifier run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketplace.protocol.errors import ConfigError
from verifier_node.endpoint_judge import EndpointJudge
from verifier_node.judges import Judge

JudgeFolder = Annotated[
    Path | None,
    typer.Option("--judge", help="a model's folder: the judge that grades where a jury scores"),
]
JudgeEndpoint = Annotated[
    str | None, typer.Option(help="or a judge behind an OpenAI-compatible address, ending in /v1")
]
JudgeModel = Annotated[str | None, typer.Option(help="the model's name at --judge-endpoint")]
JudgeKey = Annotated[
    str | None, typer.Option(help="name of the environment variable with the endpoint's key")
]


def make_judge(
    folder: Path | None, endpoint: str | None, model: str | None, key_env: str | None
) -> Judge | None:
    """The judge that was asked for; None for none. ConfigError where the options don't fit."""
    if folder is not None and endpoint is not None:
        raise ConfigError("two judges are given", fix="give --judge or --judge-endpoint")
    if (endpoint is None) != (model is None):
        raise ConfigError(
            f"--judge-endpoint is {endpoint}, --judge-model is {model}", fix="give both, or neither"
        )
    if endpoint is not None and model is not None:
        return EndpointJudge(endpoint, model, api_key_env=key_env)
    if folder is None:
        return None
    from marketplace.gym.policy import Policy
    from verifier_node.judges import ModelJudge

    return ModelJudge(Policy.load(folder), folder.name)
