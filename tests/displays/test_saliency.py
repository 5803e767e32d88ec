import random
import subprocess
import sys
from collections import OrderedDict

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import sktransfer._displays.content.grad_cam as grad_cam_module
import sktransfer._images.pictures.reading as reading_module
import sktransfer._images.streams.pictures as stream_module
from sktransfer import (
    Backbone,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
    TransferClassifier,
)
from sktransfer._displays.content.grad_cam import (
    BATCH_SIZE,
    choose_stage,
    grad_cam,
    has_maps,
)
from sktransfer._displays.drawing.captions import percent
from sktransfer._displays.saliency import MOST_IMAGES, SaliencyDisplay
from sktransfer._images.pictures.reading import read_picture
from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.stages import Head, Stages

matplotlib.use("Agg")
CPU = torch.device("cpu")
PATCH = 10


def patches(n=42, seed=0):
    """Noise with a red patch, a blue one or none, and where it is."""
    rng = np.random.default_rng(seed)
    X = rng.integers(90, 140, (n, 32, 32, 3)).astype(np.uint8)
    y = np.array(["red", "blue", "none"])[np.arange(n) % 3]
    corners = rng.integers(0, 32 - PATCH, (n, 2))
    for image, label, (row, column) in zip(X, y, corners, strict=True):
        if label != "none":
            color = (230, 20, 20) if label == "red" else (20, 20, 230)
            image[row : row + PATCH, column : column + PATCH] = color
    return X, y, corners


def transfer(**params):
    params = {"unfreeze_depth": 0, "max_epochs": 3, "random_state": 0, **params}
    return ResNetTransferClassifier("mini_resnet18", **params)


@pytest.fixture(scope="module")
def X():
    return patches(6, seed=1)[0]


@pytest.fixture(scope="module")
def clf():
    return transfer().fit(*patches()[:2])


@pytest.fixture(scope="module")
def digits_cnn():
    """A fitted CNN whose last stage has one location, and its images."""
    X, y, _ = patches(12)
    X = X[:, ::4, ::4, 0]
    cnn = ScratchCNNClassifier(
        width=4, global_pool="max", max_epochs=1, random_state=0
    ).fit(X, y)
    return cnn, X


def bright_or_dark():
    """Stages of which class 0 counts bright pixels and class 1 dark ones."""
    detect, head = nn.Conv2d(1, 2, 1), Head(2, 2, 0.0)
    with torch.no_grad():
        detect.weight[:] = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
        detect.bias[:] = torch.tensor([0.0, 1.0])
        head.linear.weight[:] = torch.eye(2)
        head.linear.bias.zero_()
    stages = OrderedDict(detect=detect, head=head)
    return Stages(stages, Preprocess(None, (0.0,), (1.0,))).eval()


def test_the_map_is_high_where_the_class_is_seen_and_nowhere_else():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 2:4, 5:7] = 1
    seen = grad_cam(bright_or_dark(), "detect", image, np.array([0]), CPU)
    assert seen.shape == (1, 8, 8)
    assert seen.dtype == np.float32
    assert np.array_equal(seen[0], image[0, :, :, 0])


def test_another_target_has_another_map():
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 2:4, 5:7] = 1
    seen = grad_cam(bright_or_dark(), "detect", image, np.array([1]), CPU)
    assert np.array_equal(seen[0], 1 - image[0, :, :, 0])


def test_each_map_is_divided_by_its_own_maximum():
    images = np.zeros((2, 8, 8, 1), np.float32)
    images[0, 0, 0], images[1, 1, 1] = 0.2, 0.9
    seen = grad_cam(bright_or_dark(), "detect", images, np.array([0, 0]), CPU)
    assert seen.max(axis=(1, 2)).tolist() == [1, 1]


def test_without_evidence_for_the_class_the_map_is_zero():
    black = np.zeros((1, 8, 8, 1), np.float32)
    seen = grad_cam(bright_or_dark(), "detect", black, np.array([0]), CPU)
    assert not seen.any()


def test_evidence_against_the_class_is_not_shown():
    stages = bright_or_dark()
    with torch.no_grad():
        stages.head.linear.weight[1] = -stages.head.linear.weight[0]
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 2:4, 5:7] = 1
    assert not grad_cam(stages, "detect", image, np.array([1]), CPU).any()


class Masked(nn.Module):
    """Multiplies each location of each channel by a number of its own."""

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", torch.tensor(mask))

    def forward(self, activation):
        return activation * self.mask


def test_channels_are_weighted_by_the_mean_of_their_gradients_before_the_sum():
    # Channel 0 holds pixels p; channel 1 holds 1 - p, evidence against the class.
    stages = bright_or_dark()
    mask = Masked([[[1.0, 2.0], [3.0, 2.0]], [[4.0, 0.0], [0.0, 0.0]]])
    stages = Stages(
        OrderedDict(detect=stages.detect, mask=mask, head=stages.head),
        stages.preprocess,
    ).eval()
    with torch.no_grad():
        stages.head.linear.weight[0] = torch.tensor([1.0, -1.0])
    image = np.array([[1.0, 0.8], [0.5, 0.0]], np.float32).reshape(1, 2, 2, 1)
    seen = grad_cam(stages, "detect", image, np.array([0]), CPU)
    # Mean gradients are 2 and -1: of 2 p - (1 - p) = 3 p - 1, what is positive.
    expected = [[1.0, 1.4 / 2], [0.5 / 2, 0.0]]
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)


def test_maps_have_the_size_of_the_images_whatever_the_network_resizes_them_to():
    stages = bright_or_dark()
    stages.preprocess = Preprocess((16, 16), (0.0,), (1.0,))
    images = np.ones((1, 6, 9, 1), np.float32)
    seen = grad_cam(stages, "detect", images, np.array([0]), CPU)
    assert seen.shape == (1, 6, 9)


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_maps_lie_on_what_is_seen_whatever_the_rule_for_long_images(size, resize):
    stages = bright_or_dark()
    stages.preprocess = Preprocess((32, 32), (0.0,), (1.0,), resize=resize)
    image = np.zeros((1, *size, 1), np.float32)
    row, column = size[0] // 2 - 3, size[1] // 2 + 2
    image[0, row : row + 3, column : column + 3] = 1
    image[0, 0, 0] = 1  # in a corner, which a crop does not show
    seen = grad_cam(stages, "detect", image, np.array([0]), CPU)[0]
    assert seen.shape == size
    assert np.unravel_index(seen.argmax(), size) == (row + 1, column + 1)
    assert (seen[0, 0] > 0.1) == (resize != "crop")


def test_more_images_than_pass_at_once_have_the_maps_that_each_has_alone():
    images = np.random.default_rng(0).random((BATCH_SIZE + 3, 8, 8, 1), np.float32)
    targets = np.arange(len(images)) // BATCH_SIZE
    seen = grad_cam(bright_or_dark(), "detect", images, targets, CPU)
    for row in (0, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 2):
        some = slice(row, row + 1)
        alone = grad_cam(bright_or_dark(), "detect", images[some], targets[some], CPU)
        np.testing.assert_allclose(seen[some], alone, atol=1e-6)


def test_the_last_stage_that_outputs_maps_is_looked_at_by_default():
    maps = {"stem": (8, 4, 4), "layer1": (16, 2, 2)}
    assert choose_stage(maps, None) == "layer1"
    assert choose_stage({**maps, "pooled": (16,)}, None) == "layer1"
    assert choose_stage({**maps, "tokens": (5, 16)}, None) == "layer1"
    assert choose_stage(maps, "stem") == "stem"


def test_a_stage_without_maps_is_refused_with_those_that_have_some():
    shapes = {"stem": (8, 4, 4), "pooled": (16,)}
    with pytest.raises(ValueError, match=r"stage='pooled'.*\(16,\); choose .*em"):
        choose_stage(shapes, "pooled")
    with pytest.raises(ValueError, match="no stage of this backbone has any"):
        choose_stage({"blocks": (5, 16)}, None)


class Pool(nn.Module):
    """Average maps, as the last stage of a backbone that returns features may."""

    def forward(self, activation):
        return activation.mean(dim=(2, 3))


class Tokens(nn.Module):
    """Cut an image into tokens, as the first stage of a transformer does."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 8, 8)

    def forward(self, images):
        return self.cut(images).flatten(2).transpose(1, 2)


class MeanToken(nn.Module):
    """Average tokens to features."""

    def forward(self, tokens):
        return tokens.mean(dim=1)


def make_pooling():
    conv = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3, 2))
    return nn.Sequential(OrderedDict(conv=conv, pool=Pool()))


def make_tokens():
    return nn.Sequential(OrderedDict(tokens=Tokens(), mean=MeanToken()))


def fit_own(make, stages):
    own = Backbone("own", make, stages, image_size=32)
    clf = TransferClassifier(own, weights=None, max_epochs=1, unfreeze_depth=0)
    return clf.set_params(random_state=0, augment=None).fit(*patches(12)[:2])


def test_a_backbone_whose_last_stage_returns_features_is_explained_by_an_earlier(X):
    clf = fit_own(make_pooling, {"conv": ["conv"], "pool": ["pool"]})
    display = SaliencyDisplay.from_estimator(clf, X)
    named = SaliencyDisplay.from_estimator(clf, X, stage="conv")
    assert display.maps.any()
    assert np.array_equal(display.maps, named.maps)
    assert has_maps(clf.net_.module_, clf.image_shape_)
    with pytest.raises(ValueError, match="choose one of conv"):
        SaliencyDisplay.from_estimator(clf, X, stage="pool")


def test_a_backbone_of_tokens_has_no_maps_and_the_error_says_what_is_needed(X):
    clf = fit_own(make_tokens, {"tokens": ["tokens"], "mean": ["mean"]})
    assert not has_maps(clf.net_.module_, clf.image_shape_)
    with pytest.raises(ValueError, match=r"needs a stage that outputs maps.*\(16, 6\)"):
        SaliencyDisplay.from_estimator(clf, X)


def test_maps_of_a_trained_network_lie_on_what_decides_the_class(clf):
    X, y, corners = patches(12, seed=1)
    display = SaliencyDisplay.from_estimator(clf, X, target=y)
    for row in np.flatnonzero(y != "none"):
        seen, (top, left) = display.maps[row], corners[row]
        inside = seen[top : top + PATCH, left : left + PATCH].mean()
        assert inside > 1.5 * seen.mean()


def test_an_earlier_stage_has_other_maps(clf, X):
    last = SaliencyDisplay.from_estimator(clf, X)
    named = SaliencyDisplay.from_estimator(clf, X, stage="layer4")
    earlier = SaliencyDisplay.from_estimator(clf, X, stage="layer2")
    assert np.array_equal(last.maps, named.maps)
    assert not np.allclose(last.maps, earlier.maps, atol=0.1)


def test_what_is_drawn_is_stored(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X)
    assert display.maps.shape == (6, 32, 32)
    assert display.maps.dtype == np.float32
    assert display.maps.min() >= 0
    assert display.maps.max() <= 1
    assert display.targets.tolist() == clf.predict(X).tolist()
    assert np.array_equal(display.proba, clf.predict_proba(X))
    assert display.classes.tolist() == ["blue", "none", "red"]
    np.testing.assert_allclose(display.images[2], X[2] / 255, atol=1e-6)


def test_pictures_stand_above_their_maps(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X)
    assert display.axes_.shape == (4, 4)
    picture, below = display.axes_[2, 1], display.axes_[3, 1]
    np.testing.assert_allclose(picture.images[0].get_array(), X[5] / 255, atol=1e-6)
    under, heat = below.images
    assert under.get_array().shape == (32, 32)
    assert np.array_equal(heat.get_array(), display.maps[5])
    assert heat.get_cmap().name == "inferno"


def test_the_picture_is_covered_only_where_there_is_evidence(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X)
    alpha = display.axes_[1, 0].images[1].get_alpha()
    seen = display.maps[0]
    assert not alpha[seen == 0].any()
    assert alpha.max() < 1
    assert np.unravel_index(alpha.argmax(), alpha.shape) == np.unravel_index(
        seen.argmax(), seen.shape
    )


def test_a_caption_says_where_there_is_no_evidence_for_the_class(clf, X):
    shown = SaliencyDisplay.from_estimator(clf, X[:1], target="red")
    empty = SaliencyDisplay(
        images=shown.images,
        maps=np.zeros_like(shown.maps),
        targets=shown.targets,
        proba=shown.proba,
        classes=shown.classes,
    ).plot()
    end = "\n(no evidence for it)"
    assert empty.axes_[0, 0].get_title().endswith(end)
    assert shown.axes_[0, 0].get_title().endswith(end) != shown.maps.any()


def test_panels_beyond_the_last_image_are_invisible(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X)
    used = [panel.axison for panel in display.axes_[::2].ravel()]
    assert used == [True] * 6 + [False] * 2
    assert used == [panel.axison for panel in display.axes_[1::2].ravel()]


def test_a_caption_shows_the_prediction_and_its_probability(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X)
    label, share = clf.predict(X)[0], percent(clf.predict_proba(X)[0].max())
    assert display.axes_[0, 0].get_title() == f"Prediction: {label}, {share}"


def test_a_caption_shows_the_target_where_it_is_not_the_prediction(clf, X):
    display = SaliencyDisplay.from_estimator(clf, X, target="red")
    predicted = clf.predict(X)
    assert set(predicted) == {"red", "blue", "none"}
    titles = [panel.get_title() for panel in display.axes_[::2].ravel()]
    for label, title in zip(predicted, titles, strict=False):
        assert ("\nmap for: red" in title) == (label != "red")
    assert display.targets.tolist() == ["red"] * 6


def test_display_labels_are_printed_instead_of_labels(clf, X):
    names = ["sky", "nothing", "a very long name that nobody would ever print"]
    display = SaliencyDisplay.from_estimator(clf, X, target="red", display_labels=names)
    blue = clf.predict(X).tolist().index("blue")
    title = display.axes_[::2].ravel()[blue].get_title()
    assert title.startswith("Prediction: sky, ")
    assert "map for: a very" in title
    assert max(len(line) for line in title.split("\n")) <= 30


def test_targets_may_be_given_one_per_image(clf, X):
    targets = ["red", "blue", "blue", "red", "red", "blue"]
    display = SaliencyDisplay.from_estimator(clf, X, target=targets)
    assert display.targets.tolist() == targets
    red = SaliencyDisplay.from_estimator(clf, X, target="red")
    blue = SaliencyDisplay.from_estimator(clf, X, target="blue")
    expected = np.where(
        (np.array(targets) == "red")[:, None, None], red.maps, blue.maps
    )
    np.testing.assert_allclose(display.maps, expected, atol=1e-6)
    assert not np.allclose(red.maps, blue.maps, atol=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: transfer(max_epochs=1),
        lambda: transfer(max_epochs=1, unfreeze_depth=5),
        lambda: transfer(max_epochs=1, precision="bfloat16"),
        lambda: ScratchCNNClassifier(
            width=4, global_pool="max", max_epochs=1, random_state=0
        ),
    ],
    ids=["frozen", "unfrozen", "bfloat16", "scratch"],
)
def test_the_classifier_and_random_numbers_are_left_as_they_were(make, X):
    clf = make().fit(*patches(12)[:2])
    module = clf.net_.module_

    def state():
        return (
            [p.requires_grad for p in module.parameters()],
            [p.grad if p.grad is None else p.grad.sum() for p in module.parameters()],
            [m.training for m in module.modules()],
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
        )

    tensors = {name: t.clone() for name, t in module.state_dict().items()}
    before, proba = state(), clf.predict_proba(X)
    SaliencyDisplay.from_estimator(clf, X, stage="layer2")
    assert state() == before
    after = module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in tensors.items())
    assert np.array_equal(clf.predict_proba(X), proba)


def test_gradients_are_taken_also_where_the_caller_has_turned_them_off(clf, X):
    expected = SaliencyDisplay.from_estimator(clf, X).maps
    with torch.no_grad():
        assert np.array_equal(SaliencyDisplay.from_estimator(clf, X).maps, expected)
    with torch.inference_mode():
        assert np.array_equal(SaliencyDisplay.from_estimator(clf, X).maps, expected)


def test_maps_are_computed_in_float32_whatever_is_set_outside(clf, X):
    expected = SaliencyDisplay.from_estimator(clf, X).maps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(SaliencyDisplay.from_estimator(clf, X).maps, expected)


def test_maps_of_one_location_are_warned_of_with_a_stage_that_has_more(digits_cnn):
    cnn, X = digits_cnn
    with pytest.warns(UserWarning, match=r"1 x 1 .* pass stage='layer2'.* 3 x 3"):
        display = SaliencyDisplay.from_estimator(cnn, X[:2])
    assert all(np.ptp(seen) < 1e-6 for seen in display.maps)


def test_grey_images_are_drawn_as_they_are(digits_cnn, recwarn):
    cnn, X = digits_cnn
    display = SaliencyDisplay.from_estimator(cnn, X[:2], stage="layer2")
    assert not recwarn.list
    assert display.maps.shape == (2, 8, 8)
    assert display.images[0].shape == (8, 8)
    assert display.axes_.shape == (2, 2)


def test_rows_of_pixels_are_shown_as_images(digits_cnn):
    cnn, X = digits_cnn
    rows = X.reshape(len(X), -1)
    seen = SaliencyDisplay.from_estimator(cnn, rows[:2], stage="layer2")
    expected = SaliencyDisplay.from_estimator(cnn, X[:2], stage="layer2")
    assert np.array_equal(seen.maps, expected.maps)


def test_picture_files_are_read_as_the_network_sees_them(clf, X, tmp_path):
    paths = [tmp_path / f"{row}.png" for row in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    seen = SaliencyDisplay.from_estimator(clf, paths)
    expected = SaliencyDisplay.from_estimator(clf, X)
    assert np.array_equal(seen.maps, expected.maps)
    assert np.array_equal(seen.images[3], expected.images[3])


def test_frames_of_pixels_are_taken_without_a_warning(recwarn):
    X, y, _ = patches(12)
    frame = pd.DataFrame(X[:, ::2, ::2, 0].reshape(len(X), -1)).rename(columns=str)
    cnn = ScratchCNNClassifier(width=4, max_epochs=1, random_state=0).fit(frame, y)
    recwarn.clear()
    display = SaliencyDisplay.from_estimator(cnn, frame[:3], stage="layer2")
    assert display.maps.shape == (3, 16, 16)
    assert not recwarn.list


def test_a_pipeline_hands_images_through_its_transformers(clf, X):
    flip = FunctionTransformer(lambda images: images[:, :, ::-1])
    pipeline = make_pipeline(flip, transfer())
    pipeline.steps[-1] = ("clf", clf)
    seen = SaliencyDisplay.from_estimator(pipeline, X)
    flipped = SaliencyDisplay.from_estimator(clf, X[:, :, ::-1])
    assert np.array_equal(seen.maps, flipped.maps)
    np.testing.assert_allclose(seen.images[0], X[0, :, ::-1] / 255, atol=1e-6)


def test_a_search_is_looked_through(X):
    search = GridSearchCV(
        make_pipeline(transfer(max_epochs=1)),
        {"resnettransferclassifier__dropout": [0.0]},
        cv=2,
    ).fit(*patches(12)[:2])
    seen = SaliencyDisplay.from_estimator(search, X)
    expected = SaliencyDisplay.from_estimator(search.best_estimator_[-1], X)
    assert np.array_equal(seen.maps, expected.maps)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stage": "layer9"}, "stage='layer9'.*stem, layer1, layer2, layer3, layer4"),
        ({"stage": "head"}, "stage='head' is not a stage before the head"),
        ({"target": "green"}, r"target='green'.*\['blue', 'none', 'red'\]"),
        ({"target": ["red"] * 5 + ["green"]}, "target='green'"),
        ({"target": ["red"] * 3}, r"inconsistent numbers of samples: \[6, 3\]"),
        ({"display_labels": ["a"]}, "display_labels has 1 names"),
        ({"n_columns": 0}, "n_columns"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(clf, X, params, message):
    with pytest.raises(ValueError, match=message):
        SaliencyDisplay.from_estimator(clf, X, **params)


def test_more_images_than_a_figure_has_room_for_are_refused(clf):
    many = np.zeros((MOST_IMAGES + 1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"X has 101 images.*X\[:12\]"):
        SaliencyDisplay.from_estimator(clf, many)


@pytest.mark.parametrize(
    "estimator",
    [
        ResNetTransferClassifier(),
        make_pipeline(FunctionTransformer(), ScratchCNNClassifier()),
        GridSearchCV(ScratchCNNClassifier(), {"width": [4]}),
    ],
)
def test_what_is_not_fitted_is_refused(estimator, X):
    with pytest.raises(NotFittedError):
        SaliencyDisplay.from_estimator(estimator, X)


def test_other_classifiers_are_refused(X):
    flat = X.reshape(len(X), -1)
    other = LogisticRegression(tol=1).fit(flat / 255, [0, 1] * 3)
    with pytest.raises(ValueError, match=r"Expected 'estimator'.*LogisticRegression"):
        SaliencyDisplay.from_estimator(other, flat)
    pipeline = make_pipeline(FunctionTransformer(), other)
    with pytest.raises(ValueError, match=r"Got Pipeline that ends in LogisticRegr"):
        SaliencyDisplay.from_estimator(pipeline, flat)


class Borrowed(ClassifierMixin, BaseEstimator):
    """A classifier of another class, with the fitted attributes of one of ours."""

    def __init__(self, clf):
        self.clf = clf

    def fit(self, X, y):
        for name in ("classes_", "image_shape_", "device_", "net_"):
            setattr(self, name, getattr(self.clf, name))
        return self

    def predict_proba(self, X):
        return self.clf.predict_proba(X)


def test_a_classifier_is_recognised_by_its_attributes(clf, X):
    seen = SaliencyDisplay.from_estimator(Borrowed(clf).fit(X, None), X)
    assert np.array_equal(seen.maps, SaliencyDisplay.from_estimator(clf, X).maps)


def test_it_is_drawn_in_the_place_of_axes_and_again_elsewhere(clf, X):
    figure, axes = plt.subplots(1, 2)
    display = SaliencyDisplay.from_estimator(clf, X, n_columns=3, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert display.axes_.shape == (4, 3)
    assert display.plot(n_columns=2) is display
    assert display.figure_ is not figure
    assert display.axes_.shape == (6, 2)


def test_captions_in_narrow_axes_are_smaller(clf, X):
    _, axes = plt.subplots(1, 2)
    narrow = SaliencyDisplay.from_estimator(clf, X, ax=axes[1]).axes_[0, 0]
    wide = SaliencyDisplay.from_estimator(clf, X).axes_[0, 0]
    assert narrow.title.get_fontsize() < wide.title.get_fontsize()


def test_importing_the_display_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, sktransfer._displays.saliency; "
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_without_matplotlib_the_error_says_so(clf, X, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    match = r"SaliencyDisplay\.from_estimator requires matplotlib"
    with pytest.raises(ImportError, match=match):
        SaliencyDisplay.from_estimator(clf, X)


def test_errors_do_not_wait_until_maps_are_computed(clf, X, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("computed too early")

    monkeypatch.setattr(grad_cam_module, "grad_cam", never)
    monkeypatch.setattr(type(clf), "predict_proba", never)
    with pytest.raises(ValueError, match="n_columns"):
        SaliencyDisplay.from_estimator(clf, X, n_columns=0)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError):
        SaliencyDisplay.from_estimator(clf, X)


def test_picture_files_are_read_once(clf, X, tmp_path, monkeypatch):
    Image.fromarray(X[0]).save(tmp_path / "0.png")
    reads = []

    def counted(*args, **kwargs):
        reads.append(args)
        return read_picture(*args, **kwargs)

    for module in (reading_module, stream_module):
        monkeypatch.setattr(module, "read_picture", counted)
    SaliencyDisplay.from_estimator(clf, [tmp_path / "0.png"])
    assert len(reads) == 1


def test_images_on_a_wrong_scale_are_warned_of_once(clf, X):
    with pytest.warns(UserWarning, match="same scale as in fit") as caught:
        SaliencyDisplay.from_estimator(clf, X.astype(np.float32))
    assert len(caught) == 1
