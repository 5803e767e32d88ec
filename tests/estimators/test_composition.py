"""The estimators inside scikit-learn's tools, pickles, and their own promises."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    RocCurveDisplay,
    classification_report,
)
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from sktransfer import (
    ResNetFeatureExtractor,
    UnfreezeSchedule,
)
from sktransfer._networks.backbones.resnet import MINI_WIDTH
from sktransfer._networks.stages import Stages
from tests import helpers
from tests.helpers import transfer

N_CLASSES = 3


def coloured_images(n=45, n_classes=N_CLASSES, seed=0):
    """Noisy 8x8 pictures, each class brighter in a channel of its own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.integers(0, 120, (n, 8, 8, 3))
    X[np.arange(n), :, :, y] += 110
    return X.astype(np.uint8), y


X, y = coloured_images()
ROWS = X.reshape(len(X), -1)


def scratch(**params):
    return helpers.scratch(**{"augment": None, **params})


def extractor(**params):
    return ResNetFeatureExtractor(
        "mini_resnet18", image_size=8, device="cpu", random_state=0, **params
    )


BOTH = pytest.mark.parametrize("make", [scratch, transfer])


def states_equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def backbone_state(module):
    return {
        name: tensor.clone()
        for name, tensor in module.state_dict().items()
        if name.split(".")[0] not in ("head", "preprocess")
    }


@BOTH
def test_a_clone_of_a_fitted_estimator_is_unfitted_and_has_its_parameters(make):
    fitted = make(dropout=0.3).fit(X, y)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        cloned.predict(X)


@BOTH
def test_a_pipeline_predicts_what_its_last_step_predicts(make):
    pipeline = Pipeline([("classifier", make())]).fit(X, y)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), make().fit(X, y).predict_proba(X)
    )


def test_a_grid_search_scores_the_same_serially_and_in_two_processes():
    grid = {"unfreeze_depth": [0, 1], "dropout": [0.0, 0.5]}
    serial, parallel = (
        GridSearchCV(transfer(), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(
            X, y
        )
        for n_jobs in (None, 2)
    )
    assert len(serial.cv_results_["params"]) == 4
    for key in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(
            serial.cv_results_[key], parallel.cv_results_[key]
        )


def test_a_halving_grid_search_gives_more_epochs_to_the_better_candidate():
    search = HalvingGridSearchCV(
        scratch(),
        {"lr": [1e-6, 0.05]},
        resource="max_epochs",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert search.n_resources_ == [1, 2]
    assert search.best_estimator_.n_iter_ == 2


def test_cross_val_predict_gives_probabilities_of_every_image():
    proba = cross_val_predict(scratch(), X, y, cv=3, method="predict_proba")
    assert proba.shape == (len(X), N_CLASSES)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_calibrated_classifier_gives_probabilities(method):
    calibrated = CalibratedClassifierCV(scratch(max_epochs=6), method=method, cv=2)
    proba = calibrated.fit(X, y).predict_proba(X)
    assert proba.shape == (len(X), N_CLASSES)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


def test_soft_voting_averages_the_probabilities_of_both_estimators():
    voting = VotingClassifier(
        [("scratch", scratch()), ("transfer", transfer())], voting="soft"
    ).fit(X, y)
    members = [make().fit(X, y).predict_proba(X) for make in (scratch, transfer)]
    np.testing.assert_allclose(
        voting.predict_proba(X), np.mean(members, axis=0), rtol=1e-5
    )


def test_stacking_learns_from_the_probabilities_of_both_estimators():
    stacking = StackingClassifier(
        [("scratch", scratch(max_epochs=5)), ("transfer", transfer())],
        LogisticRegression(),
        cv=2,
    ).fit(X, y)
    assert stacking.transform(X).shape == (len(X), 2 * N_CLASSES)
    assert stacking.score(X, y) > 0.6


def test_a_confusion_matrix_is_drawn_from_an_estimator():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    display = ConfusionMatrixDisplay.from_estimator(scratch().fit(X, y), X, y)
    plt.close("all")
    assert display.confusion_matrix.sum() == len(X)


def test_a_roc_curve_is_drawn_from_a_binary_estimator():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    X2, y2 = coloured_images(30, n_classes=2)
    classifier = scratch(max_epochs=8).fit(X2, y2)
    display = RocCurveDisplay.from_estimator(classifier, X2, y2)
    plt.close("all")
    assert classifier.decision_function(X2).shape == (30,)
    assert display.roc_auc > 0.9


def test_a_classification_report_names_string_labels():
    names = np.array(["red", "green", "blue"])[y]
    classifier = scratch(max_epochs=8).fit(X, names)
    report = classification_report(names, classifier.predict(X), output_dict=True)
    assert {"red", "green", "blue"} <= report.keys()
    assert classifier.classes_.tolist() == ["blue", "green", "red"]
    assert classifier.score(X, names) > 0.8


def test_permutation_importance_finds_the_pixels_that_matter():
    rng = np.random.default_rng(0)
    grey_y = np.arange(60) % 2
    grey = rng.integers(0, 100, (60, 16))
    grey[grey_y == 1, 5] = 255
    classifier = transfer(image_shape=(4, 4, 1), max_epochs=6, unfreeze_depth=5)
    classifier.fit(grey.astype(np.uint8), grey_y)
    result = permutation_importance(
        classifier, grey.astype(np.uint8), grey_y, n_repeats=3, random_state=0
    )
    assert result.importances_mean.shape == (16,)
    assert result.importances_mean.argmax() == 5


def test_bagging_trains_on_rows_of_pixels():
    bagging = BaggingClassifier(
        scratch(image_shape=(8, 8, 3), max_epochs=8), n_estimators=2, random_state=0
    ).fit(ROWS, y)
    assert bagging.score(ROWS, y) > 0.6


def test_self_training_labels_unlabelled_rows():
    partly = np.where(np.arange(len(y)) < 30, y, -1)
    self_training = SelfTrainingClassifier(
        scratch(image_shape=(8, 8, 3), max_epochs=10), threshold=0.4, max_iter=2
    ).fit(ROWS, partly)
    assert (self_training.transduction_ != -1).sum() > 30
    assert self_training.score(ROWS, y) > 0.6


def test_rows_give_the_same_probabilities_as_images():
    rows = scratch(image_shape=(8, 8, 3)).fit(ROWS, y).predict_proba(ROWS)
    np.testing.assert_array_equal(rows, scratch().fit(X, y).predict_proba(X))


def test_balanced_class_weights_are_the_same_as_balancing_sample_weights():
    kept = np.r_[:30, 30:45:3]
    X_few, y_few = X[kept], y[kept]
    balance = len(y_few) / (N_CLASSES * np.bincount(y_few))
    balanced = scratch(class_weight="balanced").fit(X_few, y_few)
    by_hand = scratch().fit(X_few, y_few, sample_weight=balance[y_few])
    plain = scratch().fit(X_few, y_few)
    np.testing.assert_allclose(
        balanced.predict_proba(X), by_hand.predict_proba(X), rtol=1e-4
    )
    assert not np.allclose(balanced.predict_proba(X), plain.predict_proba(X))


def test_sample_weights_are_routed_through_a_search_and_a_pipeline():
    weight = np.where(y == 0, 5.0, 0.5)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(
            scratch()
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        search = GridSearchCV(routed, {"scratchcnnclassifier__dropout": [0.0]}, cv=2)
        search.fit(X, y, sample_weight=weight)
    direct = scratch().fit(X, y, sample_weight=weight)
    plain = scratch().fit(X, y)
    np.testing.assert_array_equal(search.predict_proba(X), direct.predict_proba(X))
    assert not np.allclose(search.predict_proba(X), plain.predict_proba(X))


@BOTH
def test_a_pickle_gives_the_same_probabilities(make):
    fitted = make().fit(X, y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(X), fitted.predict_proba(X))


PICKLE_AS_CUDA = """
import pickle, sys
import numpy as np, torch
from sktransfer import ResNetTransferClassifier

torch.set_num_threads(1)
data = np.load(sys.argv[1])
clf = ResNetTransferClassifier(
    "mini_resnet18", image_size=8, max_epochs=1, device="cpu", random_state=0
).fit(data["X"], data["y"])
np.save(sys.argv[3], clf.predict_proba(data["X"]))
clf.net_.device = clf.device_ = "cuda"
# Storages are written with the tag that they would have on a CUDA device.
torch.serialization.register_package(
    0, lambda obj: "cuda:0", lambda obj, location: None
)
with open(sys.argv[2], "wb") as file:
    pickle.dump(clf, file)
"""

UNPICKLE_ON_CPU = """
import pickle, sys
import numpy as np, torch

torch.set_num_threads(1)
torch.cuda.is_available = lambda: False
with open(sys.argv[2], "rb") as file:
    clf = pickle.load(file)
assert clf.device_ == "cpu", clf.device_
X = np.load(sys.argv[1])["X"]
np.testing.assert_allclose(clf.predict_proba(X), np.load(sys.argv[3]), rtol=1e-5)
"""


def test_a_fit_made_on_cuda_unpickles_and_predicts_on_a_cpu(tmp_path):
    files = [str(tmp_path / name) for name in ("data.npz", "clf.pkl", "proba.npy")]
    np.savez(files[0], X=X, y=y)
    for script in (PICKLE_AS_CUDA, UNPICKLE_ON_CPU):
        done = subprocess.run(
            [sys.executable, "-c", script, *files], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert b"cuda:0" in (tmp_path / "clf.pkl").read_bytes()


@BOTH
def test_the_same_random_state_gives_the_same_probabilities(make):
    first, again, other = (
        make(random_state=seed, augment="flip").fit(X, y).predict_proba(X)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@BOTH
def test_probabilities_are_the_same_serially_and_in_two_processes(make, two_threads):
    serial = cross_val_predict(make(), X, y, cv=2, method="predict_proba")
    with parallel_config("loky", n_jobs=2, inner_max_num_threads=two_threads):
        parallel = cross_val_predict(make(), X, y, cv=2, method="predict_proba")
    np.testing.assert_array_equal(serial, parallel)


@pytest.mark.parametrize("random_state", [0, None])
def test_fit_leaves_the_global_random_states_alone(random_state):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    np.random.seed(1)  # noqa: NPY002
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    transfer(random_state=random_state).fit(X, y)
    assert torch.equal(before, torch.get_rng_state())
    if random_state is not None:
        numpy_after = np.random.get_state()[1]  # noqa: NPY002
        np.testing.assert_array_equal(numpy_before, numpy_after)


def test_extracted_features_feed_a_logistic_regression():
    pipeline = make_pipeline(extractor(), LogisticRegression(max_iter=1000))
    assert pipeline.fit(X[:30], y[:30]).score(X[30:], y[30:]) > 0.8


def test_extracted_features_become_a_frame_with_names():
    pytest.importorskip("pandas")
    fitted = extractor().set_output(transform="pandas").fit(X)
    frame = fitted.transform(X)
    assert frame.shape == (len(X), 8 * MINI_WIDTH)
    assert list(frame.columns) == list(fitted.get_feature_names_out())
    assert frame.columns[0] == "resnetfeatureextractor0"


def test_frozen_stages_stay_bit_identical_and_open_ones_change():
    bundled = extractor().fit(X).stages_.state_dict()
    trained = transfer(unfreeze_depth=1).fit(X, y).net_.module_.state_dict()
    unchanged = {}
    for name, tensor in trained.items():
        stage = name.split(".")[0]
        if stage != "head":
            equal = torch.equal(tensor, bundled[name])
            unchanged.setdefault(stage, []).append(equal)
    assert not all(unchanged.pop("layer4"))
    assert unchanged.keys() == {"preprocess", "stem", "layer1", "layer2", "layer3"}
    assert all(all(equal) for equal in unchanged.values())


@pytest.mark.parametrize("unfreeze_depth", [0, 2])
def test_the_optimizer_holds_learning_parameters_only(unfreeze_depth):
    net = transfer(unfreeze_depth=unfreeze_depth, max_epochs=4).fit(X, y).net_
    held = [id(p) for group in net.optimizer_.param_groups for p in group["params"]]
    learning = [id(p) for p in net.module_.parameters() if p.requires_grad]
    assert sorted(held) == sorted(learning)
    assert {g["stage"] for g in net.optimizer_.param_groups} == set(
        net.module_.learning()
    )


def test_a_fitted_estimator_serves_as_weights_also_through_clone():
    source = transfer(unfreeze_depth=1).fit(X, y)
    child = clone(transfer(weights=source, unfreeze_depth=0)).fit(X[:30], y[:30] > 0)
    assert child.weights is source
    assert states_equal(
        backbone_state(child.net_.module_), backbone_state(source.net_.module_)
    )


class InterruptInThirdEpoch(Callback):
    """Press Ctrl-C when the third epoch's first batch begins."""

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


def recorder(seen):
    """A callback that keeps the weights and validation loss of each epoch."""

    class Recorder(Callback):
        def on_epoch_end(self, net, **kwargs):
            state = {k: v.clone() for k, v in net.module_.state_dict().items()}
            seen.append((net.history[-1]["valid_loss"], state))

    return Recorder()


def test_an_interrupt_is_raised_again_and_leaves_an_estimator_that_predicts():
    classifier = scratch(max_epochs=6, callbacks=[InterruptInThirdEpoch()])
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, y)
    assert classifier.predict(X).shape == y.shape


def test_an_interrupt_keeps_the_best_weights_so_far():
    seen = []
    callbacks = [recorder(seen), InterruptInThirdEpoch()]
    settings = {"unfreeze_depth": 0, "head_init": "random", "max_epochs": 6}
    classifier = transfer(callbacks=callbacks, **settings)
    # With labels of other classes the loss grows while the head learns.
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, y, X_val=X, y_val=(y + 1) % N_CLASSES)
    losses = [loss for loss, _ in seen]
    assert losses[0] < losses[1]
    assert classifier.best_epoch_ == 1
    assert states_equal(classifier.net_.module_.state_dict(), seen[0][1])
    assert classifier.predict(X).shape == y.shape


def test_validation_images_pick_the_best_epoch():
    seen = []
    classifier = transfer(
        unfreeze_depth=0,
        head_init="random",
        max_epochs=5,
        early_stopping=False,
        callbacks=[recorder(seen)],
    )
    classifier.fit(X, y, X_val=X, y_val=(y + 1) % N_CLASSES)
    best = int(np.argmin([loss for loss, _ in seen]))
    assert classifier.n_iter_ == len(seen) == 5
    assert classifier.best_epoch_ == best + 1 < 5
    assert states_equal(classifier.net_.module_.state_dict(), seen[best][1])


@BOTH
def test_a_diverging_fit_says_where_and_leaves_the_estimator_unfitted(make):
    classifier = make(lr=1e30)
    with pytest.raises(
        FloatingPointError, match=r"epoch \d+, batch \d+ \(lr=1e\+30\)\. Lower lr"
    ):
        classifier.fit(X, y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)


@BOTH
def test_warm_start_goes_on_from_the_last_weights(make):
    classifier = make(warm_start=True).fit(X, y)
    before = {k: v.clone() for k, v in classifier.net_.module_.named_parameters()}
    classifier.set_params(lr=1e-12, random_state=5).fit(X, y)
    after = dict(classifier.net_.module_.named_parameters())
    assert all(torch.allclose(before[name], after[name]) for name in before)
    cold = dict(
        make(lr=1e-12, random_state=5).fit(X, y).net_.module_.named_parameters()
    )
    assert not torch.allclose(before["head.linear.weight"], cold["head.linear.weight"])


def test_the_unfreeze_schedule_works_in_a_plain_skorch_classifier():
    torch.manual_seed(0)
    stages = Stages(
        {
            "stem": nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU()),
            "layer1": nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)),
            "layer2": nn.Linear(8, 8),
            "head": nn.Linear(8, N_CLASSES),
        }
    )
    start = {name: tensor.clone() for name, tensor in stages.state_dict().items()}
    net = NeuralNetClassifier(
        stages,
        criterion=nn.CrossEntropyLoss,
        max_epochs=4,
        lr=0.1,
        batch_size=9,
        train_split=None,
        callbacks=[UnfreezeSchedule("gradual", unfreeze_depth=2)],
        verbose=0,
    ).fit(X.astype(np.float32) / 255, y)
    assert net.history[:, "unfreeze_depth"] == [0, 1, 2, 2]
    moved = {
        name.split(".")[0]
        for name, tensor in net.module_.state_dict().items()
        if not torch.equal(tensor, start[name])
    }
    assert moved == {"layer1", "layer2", "head"}


def test_importing_the_package_loads_no_torch():
    code = "import sys, sktransfer; print(sorted({'torch', 'skorch'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_column_of_paths_beside_numbers_becomes_a_frame(tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    frame = pd.DataFrame(
        {"photo": [tmp_path / f"{i}.png" for i in range(len(X))], "age": range(len(X))},
        index=range(100, 100 + len(X)),
    )
    extractor = ResNetFeatureExtractor("mini_resnet18")
    columns = ColumnTransformer(
        [("photo", extractor, "photo"), ("rest", "passthrough", ["age"])]
    ).set_output(transform="pandas")
    for column in ("photo", ["photo"]):
        columns.set_params(transformers=[("photo", extractor, column)])
        found = columns.fit_transform(frame)
        assert list(found.index) == list(frame.index)
        assert found.columns[0] == "photo__resnetfeatureextractor0"
        assert list(found.columns) == list(columns.get_feature_names_out())
        np.testing.assert_array_equal(found.to_numpy(), extractor.fit_transform(X))
    with pytest.raises(ValueError, match="should have length equal"):
        extractor.fit(X).get_feature_names_out(["photo"])
