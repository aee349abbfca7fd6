"""What this machine is and how loaded it is.

What can't be read is unknown, with the reason; never 0 for what is there. torch is not imported here: where it must be
asked, a child process is.
"""

from __future__ import annotations

from cyxwiz.compute.hardware.detect import Detector, Gpu, Inventory
from cyxwiz.compute.hardware.energy import EnergyMeter
from cyxwiz.compute.hardware.idle import OthersLoad
from cyxwiz.compute.hardware.machine import Machine
from cyxwiz.compute.hardware.sampler import Sampler

__all__ = ["Detector", "EnergyMeter", "Gpu", "Inventory", "Machine", "OthersLoad", "Sampler"]
