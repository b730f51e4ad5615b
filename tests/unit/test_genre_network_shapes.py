"""The network's layers, for the table's 57 features and for any other number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bandstand_training.feature_scaler import CLIP, INDIFFERENT_SCALE, FeatureScaler, fit_scaler
from bandstand_training.genre_network import GenreModel, GenreNetwork


@pytest.mark.parametrize(("inputs", "classes"), [(57, 10), (20, 8)])
def test_layers(inputs: int, classes: int) -> None:
    network = GenreNetwork(inputs, classes)
    dense = [layer for layer in network if isinstance(layer, nn.Linear)]
    dropped = [layer.p for layer in network if isinstance(layer, nn.Dropout)]
    widths = [(layer.in_features, layer.out_features) for layer in dense]
    assert widths == [(inputs, 128), (128, 64), (64, 32), (32, classes)]
    assert dropped == [0.3, 0.3]
    assert network(torch.zeros(5, inputs)).shape == (5, classes)


@pytest.mark.parametrize(("inputs", "classes"), [(57, 10), (20, 8)])
def test_model_averages_its_members(inputs: int, classes: int) -> None:
    model = GenreModel(FeatureScaler(inputs), classes, members=3).eval()
    features = torch.randn(4, inputs)
    each = model.member_logits(model.scaler(features))
    assert each.shape == (3, 4, classes)
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(model(features), each.mean(dim=0))


def test_scaled_classes_are_equally_wide_in_every_direction() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(6000) % 3
    mix = rng.normal(size=(6, 6))
    features = (0.5 * rng.normal(size=(3, 6))[labels] + rng.normal(size=(6000, 6))) @ mix
    scaler = fit_scaler(features, labels, [f"x{i}_mean" for i in range(6)])
    scaled = scaler(torch.from_numpy(features).float()).double().numpy()
    inner = scaled - np.stack([scaled[labels == k].mean(axis=0) for k in range(3)])[labels]
    wanted = np.diag([1.0, 1.0, *[INDIFFERENT_SCALE**2] * 4])
    np.testing.assert_allclose(np.cov(inner.T), wanted, atol=0.05)
    # Three classes differ along two directions only.
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=0.02)
    means = np.stack([scaled[labels == k].mean(axis=0) for k in range(3)])
    assert np.abs(means[:, 2:]).max() < 0.02 < np.abs(means[:, :2]).max()


def test_extremes_are_clipped_and_logarithms_stay_finite() -> None:
    rng = np.random.default_rng(0)
    names = ["a_mean", "a_var", "rms_mean"]
    features = rng.uniform(0.1, 1.0, (60, 3))
    scaler = fit_scaler(features, np.arange(60) % 2, names)
    assert scaler.logged.tolist() == [False, True, True]
    extremes = torch.tensor([[0.0, 0.0, 0.0], [-1e30, -1.0, -1.0], [1e30, 1e30, 1e30]])
    scaled = scaler(extremes)
    assert scaled.isfinite().all()
    assert scaled.abs().max() <= CLIP
    torch.testing.assert_close(scaled[2], scaler(extremes[2:] * 1e3)[0])


def test_constant_feature_does_no_harm() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    features[:, 1] = 7.0
    scaler = fit_scaler(features, np.arange(50) % 2, ["a_mean", "b_mean", "c_mean"])
    assert scaler(torch.from_numpy(features).float()).isfinite().all()
