"""A job of your own: `cyxwiz submit examples/script/train.py --watch`. It runs by hand as well: `python train.py`."""

from __future__ import annotations

import sys

import torch
from torch import nn

import cyxwiz.job as job

STEPS = 300

torch.manual_seed(int(job.params.get("seed", "0")))
x = torch.rand(512, 2) * 2 - 1
y = (x[:, 0] * x[:, 1] > 0).long()  # which of the diagonal quarters

model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=float(job.params.get("learning_rate", "0.01")))
state = job.load() or {"step": 0}
if state["step"]:
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])

for step in range(state["step"], STEPS):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (step + 1) % 20 == 0:
        accuracy = (model(x).argmax(1) == y).float().mean().item()
        job.report(step + 1, {"loss": loss.item(), "accuracy": accuracy}, of=STEPS)
        print(f"step {step + 1}: loss {loss.item():.4f}, accuracy {accuracy:.3f}")
    if job.should_stop():
        job.save({"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()})
        sys.exit(job.AGAIN)

torch.save(model.state_dict(), job.out_dir / "model.pt")
