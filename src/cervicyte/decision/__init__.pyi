from .calibration import (
    DecisionLimits as DecisionLimits,
    fit_limits as fit_limits,
    fit_temperature as fit_temperature,
    name_cells as name_cells,
)
from .ensemble import RULES as RULES, Combiner as Combiner
from .linear import LinearHead as LinearHead
from .quality import QualityModel as QualityModel
from .thresholds import OperatingPoint as OperatingPoint, operating_point as operating_point
