"""The training step upscore chooses by itself, beside the float32, contiguous, eager step of the same network."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from timing import interleave, machine, report, summary

from upscore.losses import count_valid, pixel_cross_entropy
from upscore.models.factory import create_model
from upscore.training.auto_config import Machine


def step_of(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, bf16: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
        loss = pixel_cross_entropy(logits.float(), labels) / count_valid(labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--batch", type=int, default=4)
    flags.add_argument("--size", type=int, default=256)
    flags.add_argument("--backbones", nargs="+", default=["vgg16", "resnet18", "mobilenetv2_100"])
    values = flags.parse_args()
    torch.set_num_threads(values.threads)
    torch.manual_seed(0)
    found = Machine.detect("cpu")
    images = torch.rand(values.batch, 3, values.size, values.size)
    labels = torch.randint(0, 21, (values.batch, values.size, values.size))
    results = {}
    for backbone in values.backbones:
        plain = create_model("fcn8s", backbone=backbone, num_classes=21).train()
        variants = {"plain": step_of(plain, images, labels, bf16=False)}
        for name, bf16, last in (("channels-last", False, True), ("bf16", True, False), ("bf16, channels-last", True, True)):
            if bf16 and not found.bf16:
                continue
            layout = torch.channels_last if last else torch.contiguous_format
            variants[name] = step_of(copy.deepcopy(plain).to(memory_format=layout), images.to(memory_format=layout), labels, bf16=bf16)
        results[backbone] = summary(interleave(variants, rounds=values.rounds), peer="plain")
        default = ("bf16, " if found.bf16 else "") + ("channels-last" if found.bf16 or backbone != "vgg16" else "")
        results[backbone]["default"] = default or "plain"
    report(
        {
            "what": "FCN-8s training step",
            "batch": values.batch,
            "size": values.size,
            "threads": values.threads,
            "native_bf16": found.bf16,
            "results": results,
            **machine("torch", "timm"),
        }
    )


if __name__ == "__main__":
    main()
