"""The architecture `ast_classifier`: the Audio Spectrogram Transformer as transformers has it.

Gong, Chung and Glass, "AST: Audio Spectrogram Transformer" (Interspeech 2021).
"""

from __future__ import annotations

import warnings
from pathlib import Path

from bandstand.errors import ModelMismatchError
from bandstand.frontends.fbank import Fbank
from bandstand.frontends.parameters import FbankParameters
from bandstand.models.card import Card
from bandstand_exporters.transformers_checkpoint import EXTRACTOR, load_model, read_json
from bandstand_exporters.transformers_classifier import TransformersClassifier, compare_extractor


def open_source(card: Card, checkpoint: Path) -> TransformersClassifier:
    """Open a checkpoint folder.

    Raises:
        CheckpointError: it is not an AST classifier, or is damaged.
        ModelMismatchError: it was trained with another front end than the card's.
    """
    from transformers import ASTFeatureExtractor, ASTForAudioClassification

    parameters = FbankParameters.from_card(card)
    extractor_config = read_json(checkpoint, EXTRACTOR)
    wanted = {
        "do_normalize": True,
        "max_length": parameters.frames,
        "num_mel_bins": parameters.n_mels,
        "mean": parameters.mean,
        "std": parameters.std,
    }
    compare_extractor(card, extractor_config, wanted)
    model = load_model(checkpoint, ASTForAudioClassification)
    takes = (model.config.max_length, model.config.num_mel_bins)
    if takes != (parameters.frames, parameters.n_mels):
        raise ModelMismatchError(
            f"{card.name}: the checkpoint takes {takes[0]} frames of {takes[1]} bands, the card's "
            f"front end makes {parameters.frames} of {parameters.n_mels}"
        )
    with warnings.catch_warnings():
        # Its lowest band is between two frequencies, as in the checkpoint's training.
        warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
        extractor = ASTFeatureExtractor.from_dict(extractor_config)
    return TransformersClassifier(card, model, Fbank(parameters), extractor)
