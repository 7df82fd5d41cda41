from .calibration import (
    DecisionLimits as DecisionLimits,
    fit_limits as fit_limits,
    fit_temperature as fit_temperature,
    name_cells as name_cells,
    operating_point as operating_point,
)
from .ensemble import RULES as RULES, Combiner as Combiner
from .linear import LinearHead as LinearHead
from .quality import QualityModel as QualityModel
