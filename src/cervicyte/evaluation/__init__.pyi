from .cross_validation import cross_validate as cross_validate
from .report import write_report as write_report
from .results import Evaluation as Evaluation, Predictions as Predictions
