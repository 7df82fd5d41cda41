from .calibration import Limits as Limits
from .calibration import fit_temperature as fit_temperature
from .ensemble import RULES as RULES
from .ensemble import Combiner as Combiner
from .linear import LinearHead as LinearHead
from .quality import QualityModel as QualityModel
