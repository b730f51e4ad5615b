"""What a caller may ask for beside the audio, over HTTP and gRPC alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bandstand.pipelines.genre import DEFAULT_TOP_K
from bandstand.pipelines.instruments import DEFAULT_THRESHOLD


class Options(BaseModel):
    """Of one pipeline; that of features has none."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class GenreOptions(Options):
    """Of `GenrePipeline.predict`."""

    model_name: Annotated[str, Field(max_length=64)] | None = None
    top_k: int = Field(DEFAULT_TOP_K, ge=1, le=1000)


class InstrumentsOptions(Options):
    """Of `InstrumentsPipeline.detect`."""

    model_name: Annotated[str, Field(max_length=64)] | None = None
    threshold: float = Field(DEFAULT_THRESHOLD, ge=0, le=1, allow_inf_nan=False)
