"""The layers around cells: depth, directions, residual connections, dropout, heads."""

from jlstm.layers.bidirectional import Bidirectional, BidirectionalOutputs, BidirectionalParams, BidirectionalState
from jlstm.layers.pointwise import Dense, DenseParams, Dropout, Embed, EmbedParams, Pointwise
from jlstm.layers.residual import Residual
from jlstm.layers.stack import Stack
from jlstm.layers.views import flatten_time, unflatten_time

__all__ = [  # noqa: RUF022, the order of the API reference
    "Stack", "Bidirectional", "BidirectionalParams", "BidirectionalState", "BidirectionalOutputs", "Residual",
    "Dense", "DenseParams", "Dropout", "Embed", "EmbedParams", "Pointwise", "flatten_time", "unflatten_time",
]  # fmt: skip
