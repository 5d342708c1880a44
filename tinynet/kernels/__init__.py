"""Floor 0: arrays in, arrays out. Every kernel as plain loops, as NumPy and compiled by Numba.

``kernels.convolution(x, weight, bias, stride, padding, dilation, groups)`` runs the active backend's version;
``kernels.backend("numpy")`` switches, ``kernels.override(im2col=my_im2col)`` puts your own function in place.
Arguments are not checked here: the operations in `tinynet.ops` do that and explain.
"""

from __future__ import annotations

from tinynet.kernels import geometry, launch, layout
from tinynet.kernels.batch_norm import (
    batch_norm_eval,
    batch_norm_eval_backward,
    batch_norm_train,
    batch_norm_train_backward,
)
from tinynet.kernels.boxes import nms, roi_align, roi_align_backward
from tinynet.kernels.convolution import (
    PackedConvolution,
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from tinynet.kernels.elementwise import channel_sum, relu, relu_backward, scale_shift
from tinynet.kernels.focal_loss import focal_loss
from tinynet.kernels.im2col import col2im, im2col
from tinynet.kernels.launch import get_num_threads, set_num_threads, threading_layer
from tinynet.kernels.linear import matrix_product
from tinynet.kernels.pooling import (
    adaptive_average_pool,
    adaptive_average_pool_backward,
    average_pool,
    average_pool_backward,
    max_pool,
    max_pool_backward,
)
from tinynet.kernels.registry import (
    BACKENDS,
    Kernel,
    OverrideReport,
    backend,
    current_backend,
    is_overridden,
    kernel_names,
    override,
    set_backend,
)
from tinynet.kernels.upsampling import bilinear, bilinear_backward, nearest, nearest_backward

__all__ = [
    "BACKENDS",
    "Kernel",
    "OverrideReport",
    "PackedConvolution",
    "adaptive_average_pool",
    "adaptive_average_pool_backward",
    "average_pool",
    "average_pool_backward",
    "backend",
    "batch_norm_eval",
    "batch_norm_eval_backward",
    "batch_norm_train",
    "batch_norm_train_backward",
    "bilinear",
    "bilinear_backward",
    "channel_sum",
    "col2im",
    "convolution",
    "convolution_input_gradient",
    "convolution_weight_gradient",
    "current_backend",
    "focal_loss",
    "geometry",
    "get_num_threads",
    "im2col",
    "is_overridden",
    "kernel_names",
    "launch",
    "layout",
    "matrix_product",
    "max_pool",
    "max_pool_backward",
    "nearest",
    "nearest_backward",
    "nms",
    "override",
    "relu",
    "relu_backward",
    "roi_align",
    "roi_align_backward",
    "scale_shift",
    "set_backend",
    "set_num_threads",
    "threading_layer",
]
