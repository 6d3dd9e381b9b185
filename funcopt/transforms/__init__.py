"""Stages that do arithmetic on updates; one idea per file."""

from ._adadelta import AdadeltaSlots as AdadeltaSlots
from ._adadelta import scale_by_adadelta as scale_by_adadelta
from ._adagrad import AdagradSlots as AdagradSlots
from ._adagrad import scale_by_adagrad as scale_by_adagrad
from ._adam import AdamSlots as AdamSlots
from ._adam import scale_by_adam as scale_by_adam
from ._averaging import EmaOfParamsSlots as EmaOfParamsSlots
from ._averaging import ema_of_params as ema_of_params
from ._clipping import clip as clip
from ._clipping import clip_by_global_norm as clip_by_global_norm
from ._decay import add_decayed_weights as add_decayed_weights
from ._momentum import EmaSlots as EmaSlots
from ._momentum import TraceSlots as TraceSlots
from ._momentum import ema as ema
from ._momentum import trace as trace
from ._rms import RmsSlots as RmsSlots
from ._rms import scale_by_rms as scale_by_rms
from ._scaling import scale as scale
from ._scaling import scale_by_learning_rate as scale_by_learning_rate
from ._scaling import scale_by_sign as scale_by_sign
from ._scaling import set_to_zero as set_to_zero
from ._watching import watch as watch
