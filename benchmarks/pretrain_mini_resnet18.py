"""Pretrain the bundled ``mini_resnet18`` backbone on 200 ImageNet classes at 32 pixels.

    python benchmarks/pretrain_mini_resnet18.py --data FOLDER --minutes 30
    python benchmarks/pretrain_mini_resnet18.py --data FOLDER --minutes 30 --resume

FOLDER holds ``train/<class>/*`` and ``val/<class>/*`` images (Tiny ImageNet-200
reduced to 32 pixels). The recipe is SGD with Nesterov momentum, batches of 128, a
linear warm-up and then a linear decay to zero over a fixed time budget, random flips
and reflect-padded shifts. Images grow to 32 pixels during training, so the early epochs
cost only a fraction. ``--bfloat16`` is for processors that are faster with it.
``--resume`` continues from the weights that the last run wrote, with a new head. The
program writes the backbone (without its 200-class head) in half precision as
safetensors, and adds the run, with its top-1 accuracy on the validation images, to a
JSON log.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import cpu
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.backbones.resnet import describe_mini_resnet18
from sktransfer._networks.weights.loading import load_backbone

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255
# Share of the time budget after which images have this size in pixels.
SIZES = {0.0: 16, 0.25: 24, 0.6: 32}
SIZES_RESUMED = {0.0: 24, 0.4: 32}


def read_split(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a folder of class folders: uint8 (n, 3, 32, 32) and labels (n,)."""
    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    files = [(f, i) for i, c in enumerate(classes) for f in sorted(c.rglob("*.*"))]

    def decode(item: tuple[Path, int]) -> np.ndarray:
        return np.asarray(Image.open(item[0]).convert("RGB"))

    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(decode, files)))
    labels = torch.tensor([label for _, label in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def size_at(progress: float, sizes: dict[float, int]) -> int:
    """Return the image size in pixels at a share of the time budget."""
    return [size for start, size in sizes.items() if progress >= start][-1]


def lr_at(progress: float, peak: float) -> float:
    """Warm up linearly over the first 5 %, then decay linearly to zero."""
    return peak * min(progress / 0.05, (1 - progress) / 0.95)


def augment(images: torch.Tensor, size: int) -> torch.Tensor:
    """Shrink to `size`, then flip and shift each image of a uint8 batch at random."""
    x = images.float().sub_(MEAN).div_(STD)
    if size != x.shape[-1]:
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    pad = size // 8
    x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    n = len(x)
    rows = torch.randint(0, 2 * pad + 1, (n, 1)) + torch.arange(size)
    cols = torch.randint(0, 2 * pad + 1, (n, 1)) + torch.arange(size)
    cols = torch.where(torch.rand(n, 1) < 0.5, cols.flip(1), cols)
    index = torch.arange(n)[:, None, None]
    x = x.permute(0, 2, 3, 1)[index, rows[:, :, None], cols[:, None, :]]
    return x.permute(0, 3, 1, 2)  # channels_last strides


@torch.inference_mode()
def top1(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images whose most probable class is correct."""
    net.eval()
    right = 0
    for x, y in zip(images.split(500), labels.split(500), strict=True):
        logits = net(x.float().sub(MEAN).div(STD))
        right += int((logits.argmax(1) == y).sum())
    net.train()
    return right / len(labels)


def main() -> None:
    """Pretrain, evaluate, write weights and log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--out", type=Path, default=Path("sktransfer/_networks/backbones/bundled")
    )
    parser.add_argument("--log", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    X, y = read_split(args.data / "train")
    X_val, y_val = read_split(args.data / "val")
    backbone = describe_mini_resnet18()
    net = make_stages(backbone, int(y.max()) + 1, 0.0, None)
    net.preprocess = nn.Identity()
    weights_file = args.out / "mini_resnet18.safetensors"
    if args.resume:
        load_backbone(backbone, net, load_file(weights_file), str(weights_file))
    sizes = SIZES_RESUMED if args.resume else SIZES
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        net.parameters(), args.lr, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    budget, start = 60 * args.minutes, time.perf_counter()
    epoch, progress, history = 0, 0.0, []
    while progress < 1:
        losses = []
        n_whole = len(X) // args.batch_size * args.batch_size
        for batch in torch.randperm(len(X))[:n_whole].split(args.batch_size):
            progress = (time.perf_counter() - start) / budget
            if progress >= 1:
                break
            optimizer.param_groups[0]["lr"] = lr_at(progress, args.lr)
            images = augment(X[batch], size_at(progress, sizes))
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                logits = net(images)
            loss = F.cross_entropy(logits.float(), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        epoch += len(losses) * args.batch_size / len(X)
        history.append(
            {"epoch": epoch, "progress": progress, "train_loss": float(np.mean(losses))}
        )
        print(history[-1], flush=True)
    accuracy = top1(net, X_val, y_val)
    print(f"top-1 on {len(y_val)} validation images: {accuracy:.4f}")

    args.out.mkdir(parents=True, exist_ok=True)
    weights = {
        name.removeprefix("stem."): tensor.half().contiguous()
        for name, tensor in net.state_dict().items()
        if not name.startswith("head.") and not name.endswith("num_batches_tracked")
    }
    save_file(weights, weights_file)
    weights_file.chmod(0o644)
    run = {
        "val_top1": accuracy,
        "epochs": epoch,
        "seconds": time.perf_counter() - start,
        "arguments": {k: str(v) for k, v in vars(args).items() if k != "data"},
        "torch": torch.__version__,
        "machine": f"{cpu()}, {torch.get_num_threads()} threads",
        "history": history,
    }
    args.log.mkdir(parents=True, exist_ok=True)
    log = args.log / "pretrain_mini_resnet18.json"
    runs = json.loads(log.read_text()) if args.resume else []
    log.write_text(json.dumps([*runs, run], indent=1) + "\n")


if __name__ == "__main__":
    main()
