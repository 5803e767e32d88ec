import numpy as np
import pytest
import torch

from sktransfer._activations.prediction import extract_features, predict_logits
from sktransfer._images.preprocessing import Preprocess, to_batch
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.device import autocast
from sktransfer._networks.fixed_batches import choose_batch_size, cut, run_padded

CPU = torch.device("cpu")


@pytest.mark.parametrize("n_prefix", [0, 3, 5])
def test_a_result_does_not_depend_on_the_images_beside_it(n_prefix):
    torch.manual_seed(0)
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    X = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    together = predict_logits(stages, n_prefix, X, CPU, "float32", None)
    alone = np.concatenate(
        [
            predict_logits(stages, n_prefix, X[i : i + 1], CPU, "float32", None)
            for i in range(40)
        ]
    )
    np.testing.assert_array_equal(together, alone)


def test_every_batch_has_the_same_size():
    sizes = []

    def record(batch):
        sizes.append(len(batch))
        return batch

    rows = torch.arange(3.0 * 9).reshape(9, 3)
    out = [run_padded(record, rows[some], 4) for some in cut(9, 4)]
    assert torch.equal(torch.cat(out), rows)
    assert sizes == [4] * 3


def test_larger_images_come_in_smaller_batches_by_the_size_that_the_network_sees():
    as_they_are = make_stages("mini_resnet18", 3, 0.0, None)
    resized = make_stages("mini_resnet18", 3, 0.0, (32, 32))
    sizes = [
        choose_batch_size(stages, shape, CPU)
        for stages in (as_they_are, resized)
        for shape in ((32, 32, 3), (224, 224, 3))
    ]
    assert sizes == [32, 16, 32, 32]


def test_float32_is_meant_whatever_is_set_outside():
    ones = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), autocast("float32", CPU):
        assert (ones @ ones).dtype == torch.float32
    with autocast("float32", CPU):
        assert (ones @ ones).dtype == torch.float32
    with autocast("bfloat16", CPU):
        assert (ones @ ones).dtype == torch.bfloat16


def test_features_are_what_the_head_maps_to_logits():
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    pooled = torch.from_numpy(
        extract_features(stages, images.numpy(), CPU, "float32", None)
    )
    with torch.no_grad():
        torch.testing.assert_close(stages.head.linear(pooled), stages(images))


def test_uint8_and_scaled_floats_are_the_same_image():
    X = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    preprocess = Preprocess(None, (0.5,) * 3, (0.25,) * 3)
    torch.testing.assert_close(
        preprocess(to_batch(X, CPU)), preprocess(to_batch(X / 255, CPU))
    )


def test_a_grey_image_is_repeated_to_the_channels_of_the_network():
    grey = torch.rand(2, 8, 8, 1)
    out = Preprocess((16, 16), (0.0,) * 3, (1.0,) * 3)(grey)
    assert out.shape == (2, 3, 16, 16)
    assert torch.equal(out[:, 0], out[:, 2])


def test_reading_only_memory_with_negative_strides_is_accepted():
    X = np.zeros((2, 4, 4, 3), np.uint8)[:, ::-1]
    X.flags.writeable = False
    assert to_batch(X, CPU).shape == (2, 4, 4, 3)
