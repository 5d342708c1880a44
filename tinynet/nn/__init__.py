"""Layers, containers, losses and their functions: a strict subset of torch.nn."""

from . import functional, init, parallel, utils
from .activation import Hardtanh, LogSoftmax, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from .containers import ModuleDict, ModuleList, Sequential
from .convolution import Conv2d, Conv3d, ConvTranspose2d
from .dropout import Dropout
from .flatten import Flatten
from .linear import Identity, Linear
from .loss import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from .module import Module
from .normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm
from .parameter import Parameter
from .pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from .sync_batch_norm import SyncBatchNorm
from .upsampling import Upsample

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "Hardtanh",
    "Identity",
    "L1Loss",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "SyncBatchNorm",
    "Tanh",
    "Upsample",
    "functional",
    "init",
    "parallel",
    "utils",
]
